//! As whom a server is asked, and by what it is known to be the right one.
//!
//! In: files that the operator names. Out: what a request carries, and connections over TLS. What is secret is shown nowhere.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where systems keep whom they trust, the first that is there: Debian, Ubuntu, Alpine, Arch; Red Hat, Fedora; SUSE.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Files that are named; each may be missing.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The first line is a token.
    pub token: Option<PathBuf>,
    /// The first line is `name:password`.
    pub user: Option<PathBuf>,
    /// Who signs the server's certificate, as PEM, in place of whom the system trusts.
    pub authority: Option<PathBuf>,
    /// Own certificate, and its key: both as PEM, and both or none.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What there is in them. The default is nobody, in clear text.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Marked as secret: what shows headers does not show it.
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

impl Credentials {
    /// Reads the files, those of TLS only where it is spoken.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it is not what it should be.
    pub fn read(files: &Files, secure: bool) -> Result<Self> {
        let authorization = match (&files.token, &files.user) {
            (Some(_), Some(_)) => bail!("a token and a password are two who ask: name one of them"),
            (Some(token), None) => Some(format!("Bearer {}", first_line(token)?)),
            (None, Some(user)) => {
                let line = first_line(user)?;
                ensure!(line.contains(':'), "{}: its first line is no `name:password`", user.display());
                Some(format!("Basic {}", STANDARD.encode(line)))
            }
            (None, None) => None,
        };
        let authorization = authorization.map(|text| {
            let mut value =
                HeaderValue::from_str(&text).ok().context("a token has characters that no token has")?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let tls = if secure { Some(Arc::new(tls(files)?)) } else { None };
        Ok(Self { authorization: authorization.transpose()?, tls })
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Speaks TLS with `host`, once it is known to be that.
    pub(crate) async fn shake(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let other = |why| io::Error::new(ErrorKind::InvalidInput, why);
        let config = self.tls.clone().ok_or_else(|| other("nobody is trusted"))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| other("the host has no name that a certificate has"))?;
        TlsConnector::from(config).connect(name, stream).await
    }
}

fn first_line(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.map(str::to_owned).with_context(|| format!("{} is empty", path.display()))
}

fn tls(files: &Files) -> Result<ClientConfig> {
    let authority = match &files.authority {
        Some(path) => path.clone(),
        None => {
            let found = AUTHORITIES.iter().map(PathBuf::from).find(|path| path.is_file());
            found.context("this system names nobody whom it trusts: name the PEM file of who signed the agent's certificate")?
        }
    };
    let mut roots = RootCertStore::empty();
    let (taken, _not_understood) = roots.add_parsable_certificates(certificates(&authority)?);
    ensure!(taken > 0, "{} has no certificate of an authority", authority.display());
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose the versions of TLS")?
        .with_root_certificates(roots);
    match (&files.certificate, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).ok();
            let private =
                private.with_context(|| format!("{} has no private key that can be read", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .with_context(|| format!("{} and {} do not fit", certificate.display(), key.display()))
        }
        _ => bail!("a certificate and its key need each other"),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.ok().with_context(|| format!("{} is no PEM", path.display()))?;
    ensure!(!all.is_empty(), "{} has no certificate", path.display());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn who_asks_is_what_the_file_says_and_is_not_shown() {
        let check = |files: &Files, expected: Result<&str, &str>| {
            let read = Credentials::read(files, false);
            match (&read, expected) {
                (Ok(credentials), Ok(expected)) => {
                    assert_eq!(credentials.authorization().unwrap(), expected);
                    assert!(!format!("{credentials:?}").contains(expected), "{credentials:?}");
                }
                (Err(error), Err(expected)) => {
                    let said = format!("{error:#}");
                    assert!(said.contains(expected) && !said.contains("sesame"), "{said}");
                }
                _ => panic!("{read:?}, not {expected:?}"),
            }
        };
        let token = |text: &str| {
            let file = file(text);
            (Files { token: Some(file.path().to_owned()), ..Files::default() }, file)
        };
        let user = |text: &str| {
            let file = file(text);
            (Files { user: Some(file.path().to_owned()), ..Files::default() }, file)
        };
        let kept = token("# new\nsesame-one\nsesame-two\n");
        check(&kept.0, Ok("Bearer sesame-one"));
        let kept = user("ann:sesame");
        check(&kept.0, Ok("Basic YW5uOnNlc2FtZQ=="));
        let kept = user("sesame");
        check(&kept.0, Err("no `name:password`"));
        let kept = token("\n");
        check(&kept.0, Err("is empty"));
        let kept = token("sesame\u{1}");
        check(&kept.0, Err("characters that no token has"));
        let (one, _file) = user("ann:sesame");
        let both = Files { token: Some("/nowhere".into()), ..one };
        check(&both, Err("name one of them"));
    }

    #[test]
    fn files_of_tls_are_looked_at_where_it_is_spoken() {
        let nothing = file("nothing");
        let files = Files { authority: Some(nothing.path().to_owned()), ..Files::default() };
        assert!(Credentials::read(&files, false).is_ok());
        let error = Credentials::read(&files, true).unwrap_err();
        assert!(format!("{error:#}").contains("has no certificate"), "{error:#}");
    }
}
