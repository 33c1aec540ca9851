//! TLS of the endpoint: what it shows of itself, and the handshake.
//!
//! In: files of certificates and keys; a connection. Out: an acceptor, or what is wrong with which file; a stream in clear
//! text, or one of a few reasons why there is none. TLS 1.2 and 1.3, HTTP/1.1 alone. How long a handshake may take is named
//! here; that it takes a place like any other connection is `http.rs`'s.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Settings, secret};
use crate::health::HandshakeFailure;

/// A handshake has to be whole within this, from the connection on: two round trips, and a signature of both.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Of two protocols for the same port the clients offer: the other one, HTTP/2, is not served.
const PROTOCOL: &[u8] = b"http/1.1";

/// What the settings ask for, its files read; none where they ask for no TLS.
///
/// # Errors
/// A file cannot be read, or what is in it does not fit; the error names the key and the file.
pub(super) fn acceptor(settings: &Settings) -> Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_key) else {
        return Ok(None);
    };
    let named = |name: &str, path: &Path| format!("`export.{name}` {}", path.display());
    let chain = certificates(certificate).with_context(|| named("tls_certificate", certificate))?;
    let private = private_key(key).with_context(|| named("tls_key", key))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("choose the versions of TLS")?;
    let builder = match &settings.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(
            client_verifier(path, provider).with_context(|| named("tls_client_ca", path))?,
        ),
    };
    let mut config = builder.with_single_cert(chain, private).with_context(|| {
        format!("{} and {} do not fit", named("tls_certificate", certificate), named("tls_key", key))
    })?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = secret::read(path)?;
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| not_pem(&error))?;
    ensure!(!chain.is_empty(), "it has no certificate (`-----BEGIN CERTIFICATE-----`)");
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let bytes = secret::read(path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) => {
            bail!(
                "it has no private key in clear text (`-----BEGIN PRIVATE KEY-----`); one with a password is not read"
            )
        }
        Err(error) => Err(not_pem(&error)),
    }
}

/// Without the library's own words, which may hold a line of the file.
fn not_pem(error: &PemError) -> anyhow::Error {
    anyhow::Error::msg(match error {
        PemError::MissingSectionEnd { .. } => "it is cut off: a section has no end",
        PemError::Base64Decode(_) => "it is no PEM: a section is no base64",
        _ => "it is no PEM",
    })
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).context("take a certificate of it for an authority")?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .context("take it for the authorities of clients")
}

/// Makes a connection one in clear text.
///
/// # Errors
/// Why there is none; the client has been told what the protocol has a word for.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    stream: S,
    time_max: Duration,
) -> Result<TlsStream<S>, HandshakeFailure> {
    match tokio::time::timeout(time_max, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_late) => Err(HandshakeFailure::Late),
    }
}

fn failure(error: &io::Error) -> HandshakeFailure {
    use rustls::Error;
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        None => HandshakeFailure::Closed,
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => HandshakeFailure::Certificate,
        Some(Error::AlertReceived(_)) => HandshakeFailure::Refused,
        Some(_) => HandshakeFailure::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::export::testing::Authority;

    fn settings(certificate: PathBuf, key: PathBuf, client_ca: Option<PathBuf>) -> Settings {
        Settings {
            tls_certificate: Some(certificate),
            tls_key: Some(key),
            tls_client_ca: client_ca,
            ..Settings::default()
        }
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let authority = Authority::new();
        let (one, other) = (authority.issue("localhost"), authority.issue("localhost"));
        let (certificate, key) = (write("c", &one.certificate), write("k", &one.key));
        let check = |settings: &Settings, expected: &[&str]| {
            let said = format!("{:#}", acceptor(settings).err().unwrap());
            assert!(expected.iter().all(|part| said.contains(part)), "{said}");
            assert!(!said.contains("MII") && said.lines().count() == 1, "{said}");
        };
        assert!(acceptor(&settings(certificate.clone(), key.clone(), None)).unwrap().is_some());
        assert!(acceptor(&Settings::default()).unwrap().is_none());
        let with_certificate = |text: &str| settings(write("x", text), key.clone(), None);
        check(&with_certificate(""), &["`export.tls_certificate` /", "/x: it has no certificate"]);
        check(&with_certificate(&one.key), &["it has no certificate"]);
        check(&with_certificate(&one.certificate[..300]), &["it is cut off"]);
        check(&with_certificate(&one.certificate.replace("MII", "M!I")), &["no base64"]);
        let with_key = |text: &str| settings(certificate.clone(), write("y", text), None);
        check(&with_key(&other.key), &["`export.tls_certificate` /", "and `export.tls_key` /", "do not fit"]);
        check(&with_key(&one.certificate), &["`export.tls_key` /", "no private key in clear text"]);
        let encrypted = one.key.replace(" PRIVATE", " ENCRYPTED PRIVATE");
        check(&with_key(&encrypted), &["one with a password is not read"]);
        check(&settings(certificate.clone(), folder.path().join("z"), None), &["tls_key", "No such file"]);
        let client_ca = Some(write("a", &one.key));
        check(
            &settings(certificate.clone(), key.clone(), client_ca),
            &["`export.tls_client_ca` /", "no certificate"],
        );
    }

    /// What a handshake with these bytes comes to, the client closing behind them or not.
    async fn outcome(bytes: &[u8], closes: bool) -> HandshakeFailure {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let files = authority.issue("localhost").write(folder.path(), "server");
        let acceptor = acceptor(&settings(files.0, files.1, None)).unwrap().unwrap();
        let (near, mut far) = duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        let mut far = Some(far);
        if closes {
            far.as_mut().unwrap().shutdown().await.unwrap();
        }
        let outcome = shake(&acceptor, near, Duration::from_millis(200)).await.err().unwrap();
        let mut answer = Vec::new();
        // An alert at most: nothing of the agent's is told to who speaks no TLS.
        far.unwrap().read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() <= 7, "{answer:?}");
        outcome
    }

    #[tokio::test]
    async fn what_is_no_handshake_ends_with_its_reason() {
        use HandshakeFailure::{Closed, Late, Protocol};
        let hello: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
        let endless: Vec<u8> =
            b"\x16\x03\x01\x40\0\x01\xff\xff\xff".iter().copied().chain(vec![7; 60_000]).collect();
        for (bytes, closes, expected) in [
            (&b""[..], true, Closed),
            (b"", false, Late),
            (hello, true, Closed),
            (hello, false, Late),
            (b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", false, Protocol),
            (&[0; 100], false, Protocol),
            (&[0xff; 5000], false, Protocol),
            (b"\x16\x03\x01\xff\xff", false, Protocol),
            (b"\x15\x03\x03\0\x02\x02\x28", false, HandshakeFailure::Refused),
            (&endless, false, Protocol),
        ] {
            assert_eq!(outcome(bytes, closes).await, expected, "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(200))]
        #[test]
        fn any_bytes_are_no_certificate(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let text = [b"-----BEGIN CERTIFICATE-----\n", &bytes[..], b"\n-----END CERTIFICATE-----\n"].concat();
            for text in [&bytes[..], &text[..]] {
                fs::write(file.path(), text).unwrap();
                let settings = settings(file.path().to_owned(), file.path().to_owned(), None);
                proptest::prop_assert!(acceptor(&settings).is_err());
            }
        }
    }
}
