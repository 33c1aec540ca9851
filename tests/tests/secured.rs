//! An agent that serves TLS and asks for tokens, passwords or certificates, with the unit's rights and confined: a real
//! Prometheus scrapes it, curl and `inferscope top` read it, strangers do not.
//!
//! Needs root, the agent's binary, Prometheus as `cargo xtask setup` unpacks it, and curl.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use inferscope_tests::harness::{AgentProcess, agent_command, free_address};
use inferscope_tests::prometheus::Prometheus;
use inferscope_tests::rights::{NOBODY, Rights};
use inferscope_tests::skip;
use inferscope_tests::stage::{Stage, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// Whatever is waited for comes in this time, or not at all. Longer than the agent's look at its files.
const WAIT_MAX: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NEXT_TOKEN: &str = "fedcba9876543210fedcba9876543210";
/// `ann`, `sesame`, hashed by libxcrypt.
const USERS: &str = "ann:$2y$10$abcdefghijklmnopqrstuuYoA/Ig5dOcHJ1Uzls.zCgSC7r9v4W76\n";
/// Arguments or configuration are not right.
const EXIT_USAGE: i32 = 2;

/// A file that only its owner may read, and that the agent may.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    if Rights::of_environment().unwrap() == Rights::Two {
        chown(path, Some(NOBODY), None).unwrap();
    }
}

/// An authority, and a folder of what it signed, as Kubernetes mounts secrets: each file a link through `..data`.
struct Secrets {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
    version: u32,
}

impl Secrets {
    fn new(folder: PathBuf) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::create_dir(&folder).unwrap();
        let secrets = Self { folder, authority, version: 0 };
        write(&secrets.at("ca.crt"), &secrets.authority.pem());
        for name in ["tls.crt", "tls.key", "tokens"] {
            symlink(format!("..data/{name}"), secrets.at(name)).unwrap();
        }
        secrets
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate and its key for whoever is called so.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// Exchanges all files at once.
    fn rotate(&mut self, token: &str) {
        self.version += 1;
        let (version, (certificate, key)) = (format!("..{}", self.version), self.issue("127.0.0.1"));
        fs::create_dir(self.at(&version)).unwrap();
        for (name, text) in [("tls.crt", &certificate), ("tls.key", &key), ("tokens", &token.to_owned())] {
            write(&self.at(&version).join(name), text);
        }
        symlink(&version, self.at("..next")).unwrap();
        fs::rename(self.at("..next"), self.at("..data")).unwrap();
    }

    fn settings(&self) -> String {
        let at = |name: &str| self.at(name).display().to_string();
        format!(
            "[export]\ntls_certificate = \"{}\"\ntls_key = \"{}\"\nbearer_token_file = \"{}\"\n",
            at("tls.crt"),
            at("tls.key"),
            at("tokens")
        )
    }
}

/// Status and body of a page, as curl gets it; none where there is no connection.
fn curl(agent: &AgentProcess, path: &str, more: &[&str]) -> Option<(u16, String)> {
    let url = format!("https://{}{path}", agent.listen);
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"])
        .args(more)
        .arg(url)
        .output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    output.status.success().then(|| (status.parse().unwrap(), body.to_owned()))
}

fn has_curl() -> bool {
    let there = Command::new("curl").arg("--version").output().is_ok();
    if !there {
        skip("curl is not here");
    }
    there
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("{series} is not on {page}")).trim().parse().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn prometheus_scrapes_over_tls_with_a_token() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let binaries = ["prometheus-2/prometheus", "prometheus-3/prometheus"].map(|binary| stage.tool(binary));
    let [Some(old), Some(new)] = binaries else { return };
    let mut secrets = Secrets::new(stage.path().join("secrets"));
    secrets.rotate(TOKEN);
    let agent = stage.start_agent(&(stage.rule() + &secrets.settings())).unwrap();
    let job = |name: &str, token: &str| {
        format!(
            "- job_name: {name}\n  scheme: https\n  tls_config:\n    ca_file: {}\n  authorization:\n    credentials_file: {}\n  \
             static_configs:\n  - targets: [\"{}\"]\n",
            secrets.at("ca.crt").display(),
            token,
            agent.listen
        )
    };
    write(&secrets.at("stranger"), NEXT_TOKEN);
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{}{}",
        job("known", &secrets.at("tokens").display().to_string()),
        job("stranger", &secrets.at("stranger").display().to_string())
    );
    for (number, binary) in [old, new].into_iter().enumerate() {
        let folder = stage.path().join(format!("prometheus-{number}"));
        fs::create_dir(&folder).unwrap();
        let prometheus = Prometheus::start(&binary, &folder, &config, &[]).unwrap();
        let up = |job: &str, expected: f64| {
            let found = until(WAIT_MAX, || {
                let elements = prometheus.query(&format!("up{{job=\"{job}\"}}")).unwrap();
                elements.first().filter(|element| element.value == Some(expected)).map(drop)
            });
            assert!(found.is_some(), "{job} is not {expected}");
        };
        up("known", 1.0);
        up("stranger", 0.0);
        let build = prometheus.query("inferscope_build_info").unwrap();
        assert_eq!(build.len(), 1, "{build:?}");
        prometheus.stop().unwrap();
    }
    let log = agent.read_log().unwrap();
    assert!(!log.contains(TOKEN) && !log.contains(NEXT_TOKEN) && !log.contains("may read"), "{log}");
    agent.stop().unwrap();
}

#[test]
fn curl_and_top_read_what_they_may_and_secrets_rotate() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    if !has_curl() {
        return;
    }
    let mut secrets = Secrets::new(stage.path().join("secrets"));
    secrets.rotate(TOKEN);
    let agent = stage.start_agent(&(stage.rule() + &secrets.settings())).unwrap();
    let authority = secrets.at("ca.crt").display().to_string();
    let trust = ["--cacert", &authority];
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let with = |token: &str, path: &str| curl(&agent, path, &[&trust[..], &["-H", &bearer(token)]].concat());

    let (status, page) = with(TOKEN, "/metrics").unwrap();
    assert_eq!((status, value(&page, "inferscope_ticks_total ") >= 1.0), (200, true));
    assert_eq!(with(NEXT_TOKEN, "/metrics").unwrap().0, 401);
    assert_eq!(curl(&agent, "/api/v1/requests", &trust).unwrap().0, 401);
    let (status, health) = curl(&agent, "/healthz", &trust).unwrap();
    assert_eq!((status, health.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(curl(&agent, "/readyz", &trust).unwrap().0, 200);
    assert_eq!(curl(&agent, "/metrics", &["-H", &bearer(TOKEN)]), None, "nobody has signed it");
    assert_eq!(curl(&agent, "/healthz", &[&trust[..], &["--tls-max", "1.2"]].concat()).unwrap().0, 200);
    let (_, page) = with(TOKEN, "/metrics").unwrap();
    assert!(value(&page, "inferscope_http_requests_unauthorized_total{reason=\"wrong\"} ") >= 1.0);
    assert!(value(&page, "inferscope_http_requests_unauthorized_total{reason=\"missing\"} ") >= 1.0);
    assert!(value(&page, "inferscope_http_handshakes_failed_total{reason=\"refused\"} ") >= 1.0);

    let top = |more: &[&str]| {
        let mut command = agent_command(&stage.agent);
        command.args(["top", "--json", "--url", &format!("https://{}", agent.listen), "--ca", &authority]);
        command.args(more).output().unwrap()
    };
    write(&stage.path().join("token"), TOKEN);
    let token = stage.path().join("token").display().to_string();
    let page: serde_json::Value = serde_json::from_slice(&top(&["--token-file", &token]).stdout).unwrap();
    assert_eq!(page["agent"]["status"], "ok");
    let stranger = top(&[]);
    assert!(!stranger.status.success() && said(&stranger).contains("--token-file"), "{}", said(&stranger));

    // By itself, as nobody tells it; the sandbox is on.
    secrets.rotate(&format!("{NEXT_TOKEN}\n"));
    let taken_over = until(WAIT_MAX, || (with(NEXT_TOKEN, "/metrics")?.0 == 200).then_some(()));
    assert!(taken_over.is_some(), "{}", agent.read_log().unwrap());
    assert_eq!(with(TOKEN, "/metrics").unwrap().0, 401);
    // Told, and wrong: all stays.
    secrets.rotate("short");
    agent.signal(Signal::HUP).unwrap();
    let warned = until(WAIT_MAX, || agent.read_log().unwrap().contains("stay as they were").then_some(()));
    assert!(warned.is_some(), "{}", agent.read_log().unwrap());
    assert_eq!(with(NEXT_TOKEN, "/metrics").unwrap().0, 200);
    let log = agent.read_log().unwrap();
    assert!(![TOKEN, NEXT_TOKEN].iter().any(|secret| log.contains(secret)), "{log}");
    agent.stop().unwrap();
}

#[test]
fn passwords_and_certificates_of_clients_are_asked_for() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    if !has_curl() {
        return;
    }
    let mut secrets = Secrets::new(stage.path().join("secrets"));
    secrets.rotate(TOKEN);
    write(&secrets.at("users"), USERS);
    let (certificate, key) = secrets.issue("scraper");
    write(&secrets.at("scraper.crt"), &certificate);
    write(&secrets.at("scraper.key"), &key);
    let [authority, users, certificate, key] =
        ["ca.crt", "users", "scraper.crt", "scraper.key"].map(|name| secrets.at(name).display().to_string());
    let settings = format!(
        "{}{}tls_client_ca = \"{authority}\"\nbasic_auth_file = \"{users}\"\n",
        stage.rule(),
        secrets.settings()
    );
    let agent = stage.start_agent(&settings).unwrap();
    let shown = ["--cacert", &authority, "--cert", &certificate, "--key", &key];
    let with =
        |more: &[&str]| curl(&agent, "/metrics", &[&shown[..], more].concat()).map(|(status, _)| status);
    assert_eq!(with(&["-u", "ann:sesame"]), Some(200));
    assert_eq!(with(&["-u", "ann:simsim"]), Some(401));
    assert_eq!(with(&[]), Some(401));
    for path in ["/metrics", "/healthz"] {
        assert_eq!(curl(&agent, path, &["--cacert", &authority, "-u", "ann:sesame"]), None, "no certificate");
    }
    agent.stop().unwrap();
}

#[test]
fn a_wrong_file_ends_start_and_check_alike() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let mut secrets = Secrets::new(stage.path().join("secrets"));
    secrets.rotate("short");
    let config = stage.path().join("inferscope.toml");
    fs::write(&config, secrets.settings()).unwrap();
    for command in ["run", "check"] {
        let mut agent = agent_command(&stage.agent);
        let listen = free_address().unwrap().to_string();
        let output =
            agent.arg(command).arg("--config").arg(&config).args(["--listen", &listen]).output().unwrap();
        assert_eq!(output.status.code(), Some(EXIT_USAGE), "{}", said(&output));
        assert!(said(&output).contains("`export.bearer_token_file` /"), "{}", said(&output));
    }
}
