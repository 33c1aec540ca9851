//! TLS and authentication as clients see them: those that may, those that may not, those that mean no good.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tests::{PATIENCE, Running, SHORT, contains, read_to_end, start_secured, starts};
use super::*;
use crate::export::Settings;
use crate::export::testing::Authority;
use crate::http_client::credentials::{Credentials, Files};
use crate::http_client::{self, Address, Why};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const ROOMY: Limits = Limits { connections: 8, peer_connections: 8, ..SHORT };
const ASK: http_client::Limits = http_client::Limits { time: PATIENCE, bytes: 1 << 20 };

/// A folder with what a server and its clients need.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
    settings: Settings,
}

impl Scene {
    /// An agent with a certificate for this host.
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        authority.write(folder.path(), "ca");
        let (certificate, key) = authority.issue("127.0.0.1").write(folder.path(), "server");
        let settings =
            Settings { tls_certificate: Some(certificate), tls_key: Some(key), ..Settings::default() };
        Self { folder, authority, settings }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn with_token(mut self) -> Self {
        self.settings.bearer_token_file = Some(self.write("tokens", TOKEN));
        self
    }

    fn with_user(mut self) -> Self {
        let hash = bcrypt::hash("sesame", 4).unwrap();
        self.settings.basic_auth_file = Some(self.write("users", &format!("ann:{hash}\n")));
        self
    }

    /// What a client of this authority is given.
    fn files(&self) -> Files {
        Files { authority: Some(self.folder.path().join("ca.pem")), ..Files::default() }
    }

    fn token_files(&self, token: &str) -> Files {
        Files { token: Some(self.write("client-token", token)), ..self.files() }
    }
}

/// The page at `path`, or in one sentence why there is none.
async fn ask(server: &Running, files: &Files, path: &str) -> Result<String, String> {
    let address = Address::parse(&format!("https://{}", server.address), 0).unwrap();
    let server = http_client::Server { address, credentials: Credentials::read(files, true).unwrap() };
    let answers = http_client::get(&server, &[path], "*/*", ASK).await;
    answers.map(|mut answers| String::from_utf8(answers.remove(0)).unwrap()).map_err(|failure| match failure
        .why
    {
        Why::Status(status, _) => status.as_u16().to_string(),
        why => why.to_string(),
    })
}

/// Waits until a line is on the page of whoever may read it.
async fn wait_for_line(server: &Running, files: &Files, line: &str) {
    let began = Instant::now();
    loop {
        let page = ask(server, files, "/metrics").await.unwrap();
        if page.lines().any(|other| other == line) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{line} is not on {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_page_comes_over_tls_to_who_knows_the_authority() {
    let scene = Scene::new();
    let server = start_secured(ROOMY, &scene.settings).await;
    contains(&ask(&server, &scene.files(), "/metrics").await.unwrap(), "vllm_requests_total{");
    let stranger =
        Files { authority: Some(Authority::new().write(scene.folder.path(), "other")), ..Files::default() };
    contains(&ask(&server, &stranger, "/metrics").await.unwrap_err(), "invalid peer certificate");
    wait_for_line(&server, &scene.files(), r#"inferscope_http_handshakes_failed_total{reason="refused"} 1"#)
        .await;
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let scene = Scene::new();
    let server = start_secured(ROOMY, &scene.settings).await;
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(scene.authority.pem().as_bytes()).unwrap())
        .unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // The end is told: an answer that somebody cut would be an error here.
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        starts(&String::from_utf8_lossy(&answer), "HTTP/1.1 200 OK\r\n");
    }
}

#[tokio::test]
async fn a_certificate_of_a_client_is_asked_for_where_that_is_said() {
    let mut scene = Scene::new();
    scene.settings.tls_client_ca = Some(scene.folder.path().join("ca.pem"));
    let server = start_secured(ROOMY, &scene.settings).await;
    let shows = |authority: &Authority, name: &str| {
        let (certificate, key) = authority.issue("scraper").write(scene.folder.path(), name);
        Files { certificate: Some(certificate), key: Some(key), ..scene.files() }
    };
    let known = shows(&scene.authority, "known");
    contains(&ask(&server, &known, "/metrics").await.unwrap(), "vllm_requests_total{");
    for files in [scene.files(), shows(&Authority::new(), "unknown")] {
        for path in ["/metrics", "/healthz"] {
            let why = ask(&server, &files, path).await.unwrap_err();
            assert!(why.parse::<u16>().is_err(), "{why}");
        }
    }
    wait_for_line(&server, &known, r#"inferscope_http_handshakes_failed_total{reason="certificate"} 4"#)
        .await;
}

#[tokio::test]
async fn a_token_or_a_password_is_asked_for_but_for_health() {
    let scene = Scene::new().with_token().with_user();
    let server = start_secured(ROOMY, &scene.settings).await;
    let right = scene.token_files(TOKEN);
    for path in ["/metrics", "/api/v1/agent", "/"] {
        assert!(ask(&server, &right, path).await.is_ok(), "{path}");
        assert_eq!(ask(&server, &scene.files(), path).await.unwrap_err(), "401", "{path}");
    }
    assert_eq!(
        ask(&server, &scene.files(), "/nothing").await.unwrap_err(),
        "401",
        "what there is, is not told"
    );
    assert_eq!(ask(&server, &right, "/nothing").await.unwrap_err(), "404");
    let wrong = Files { token: Some(scene.write("wrong", &TOKEN.replace('0', "1"))), ..scene.files() };
    assert_eq!(ask(&server, &wrong, "/metrics").await.unwrap_err(), "401");
    let user = |line: &str| Files { user: Some(scene.write("client-user", line)), ..scene.files() };
    assert!(ask(&server, &user("ann:sesame"), "/metrics").await.is_ok());
    assert_eq!(ask(&server, &user("ann:simsim"), "/metrics").await.unwrap_err(), "401");
    // Not ready in a test, and yet an answer.
    assert_eq!(ask(&server, &scene.files(), "/readyz").await.unwrap_err(), "503");
    let right = scene.token_files(TOKEN);
    wait_for_line(&server, &right, r#"inferscope_http_requests_unauthorized_total{reason="missing"} 4"#)
        .await;
    wait_for_line(&server, &right, r#"inferscope_http_requests_unauthorized_total{reason="wrong"} 2"#).await;
}

#[tokio::test]
async fn strangers_are_told_how_the_agent_is_and_not_why() {
    let scene = Scene::new().with_token();
    let server = start_secured(ROOMY, &scene.settings).await;
    assert_eq!(ask(&server, &scene.files(), "/healthz").await.unwrap(), r#"{"status":"starting"}"#);
    contains(&ask(&server, &scene.token_files(TOKEN), "/healthz").await.unwrap(), r#""probes":["#);
}

#[tokio::test]
async fn a_refusal_says_what_is_asked_for_and_nothing_else() {
    let mut scene = Scene::new().with_token().with_user();
    (scene.settings.tls_certificate, scene.settings.tls_key) = (None, None);
    let server = start_secured(ROOMY, &scene.settings).await;
    let answer = server.get("/metrics", "").await;
    starts(&answer, "HTTP/1.1 401 Unauthorized\r\n");
    contains(&answer, "www-authenticate: Bearer realm=\"inferscope\"\r\n");
    contains(&answer, "www-authenticate: Basic realm=\"inferscope\", charset=\"UTF-8\"\r\n");
    assert!(!answer.contains("vllm_"), "{answer}");
    for headers in [
        "authorization: Bearer\r\n".to_owned(),
        format!("authorization: Bearer {TOKEN}\r\nauthorization: Bearer {TOKEN}\r\n"),
        format!("x-authorization: Bearer {TOKEN}\r\n"),
        format!("authorization: Bearer {}\r\n", "x".repeat(8000)),
        "authorization: Basic \u{fc}\r\n".to_owned(),
    ] {
        starts(&server.get("/metrics", &headers).await, "HTTP/1.1 401 ");
    }
    starts(&server.get("/metrics", &format!("Authorization: bearer {TOKEN}\r\n")).await, "HTTP/1.1 200 ");
    for path in ["//healthz", "/healthz/", "/HEALTHZ", "/healthz/../metrics", "/readyz%2f..%2fmetrics"] {
        starts(&server.get(path, "").await, "HTTP/1.1 401 ");
    }
    for path in ["/healthz?a=/metrics", "http://a/healthz"] {
        starts(&server.get(path, "").await, "HTTP/1.1 200 ");
    }
    starts(&server.get("http://healthz/metrics", "").await, "HTTP/1.1 401 ");
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_gives_its_place_back() {
    let scene = Scene::new();
    let server = start_secured(Limits { header_timeout: PATIENCE, ..SHORT }, &scene.settings).await;
    let began = Instant::now();
    let mut held = Vec::new();
    for bytes in [&b""[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        held.push(stream);
    }
    // Both places are taken: the next one is closed without a word.
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut third).await, "");
    assert!(began.elapsed() < PATIENCE / 2);
    for mut stream in held {
        read_to_end(&mut stream).await;
    }
    assert!(began.elapsed() >= SHORT.handshake_timeout, "{:?}", began.elapsed());
    wait_for_line(&server, &scene.files(), r#"inferscope_http_handshakes_failed_total{reason="late"} 2"#)
        .await;
    wait_for_line(&server, &scene.files(), "inferscope_http_connections_refused_total 1").await;
}

#[tokio::test]
async fn one_byte_now_and_then_is_no_handshake() {
    let scene = Scene::new();
    let server = start_secured(ROOMY, &scene.settings).await;
    let (began, mut stream) = (Instant::now(), TcpStream::connect(server.address).await.unwrap());
    for byte in b"\x16\x03\x01\x3f\xff\x01\0\x3f\xfb\x03\x03".iter().chain(std::iter::repeat(&7)) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still open");
        tokio::time::sleep(SHORT.handshake_timeout / 10).await;
    }
    assert!(ask(&server, &scene.files(), "/healthz").await.is_ok());
}

#[tokio::test]
async fn what_is_no_tls_is_told_nothing() {
    let scene = Scene::new().with_token();
    let server = start_secured(ROOMY, &scene.settings).await;
    let garbage: Vec<u8> = (0..4096_u32).map(|number| (number * 167 % 251) as u8).collect();
    for bytes in [
        b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"\x16\x03\x01\xff\xff\xff".to_vec(),
        garbage,
        b"\0".repeat(100),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _reset_where_bytes_were_left =
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        // An alert of seven bytes at most.
        assert!(answer.len() <= 7, "{answer:?} to {:?}", String::from_utf8_lossy(&bytes));
    }
    let right = scene.token_files(TOKEN);
    wait_for_line(&server, &right, r#"inferscope_http_handshakes_failed_total{reason="protocol"} 6"#).await;
}

/// The limits of plain connections are those of TLS: what the library keeps for the client counts as not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_over_tls_loses_its_place() {
    let scene = Scene::new();
    let limits = Limits { connections: 1, peer_connections: 1, header_timeout: PATIENCE, ..SHORT };
    let server = start_secured(limits, &scene.settings).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let mut stream =
        Credentials::read(&scene.files(), true).unwrap().shake("127.0.0.1", stream).await.unwrap();
    // More answers than kernel and library keep.
    let began = Instant::now();
    for _ in 0..200 {
        if stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while ask(&server, &scene.files(), "/healthz").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the place is still taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn certificates_and_tokens_that_change_are_taken_over_and_wrong_ones_are_not() {
    let scene = Scene::new().with_token();
    let access = Access::load(&scene.settings).unwrap();
    let server = super::tests::start_with_access(ROOMY, access.clone()).await;
    let old = scene.token_files(TOKEN);
    assert!(ask(&server, &old, "/metrics").await.is_ok());
    // Another authority altogether, and another token.
    let next = Authority::new();
    next.issue("127.0.0.1").write(scene.folder.path(), "server");
    scene.write("tokens", "fedcba9876543210fedcba9876543210");
    access.read_again();
    let token = Some(scene.write("next-token", "fedcba9876543210fedcba9876543210"));
    let new = Files { token, authority: Some(next.write(scene.folder.path(), "next")), ..Files::default() };
    let began = Instant::now();
    while ask(&server, &new, "/metrics").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    contains(&ask(&server, &old, "/metrics").await.unwrap_err(), "no TLS");
    scene.write("server.key", "torn");
    access.read_again();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(ask(&server, &new, "/metrics").await.is_ok());
}
