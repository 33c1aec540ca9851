//! TLS and authentication as they stand, and their files read again.
//!
//! In: the settings, and a word that files may have changed. Out: what new connections and requests are held against. Files
//! are read at the start, where a wrong one is an error; after that whenever one of them has changed, looked at every
//! [`LOOK_EVERY`], and when the agent is told to reload. Then a wrong one is a warning, and what was known stays.
//!
//! Whoever renews certificates or mounts secrets (cert-manager, Kubernetes) tells nobody, hence the look; it goes by path,
//! because they exchange a link.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::auth::Guard;
use super::secret::{Stamp, is_open};
use super::{Settings, tls};

/// Pace of the look at whether files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A handle on them; clones are the same.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    settings: Settings,
    current: RwLock<Current>,
    /// Of the files that `current` is from, or that were no better.
    stamps: Mutex<Vec<Option<Stamp>>>,
    told: Notify,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.0.settings).finish()
    }
}

/// What is in force.
#[derive(Clone)]
struct Current {
    tls: Option<TlsAcceptor>,
    guard: Option<Arc<Guard>>,
}

impl Access {
    /// As the settings say, from the files that they name.
    ///
    /// # Errors
    /// A file cannot be read or is wrong; the error names key and file.
    pub fn load(settings: &Settings) -> Result<Self> {
        // Before the files: one that changes meanwhile is read once more.
        let stamps = stamps(settings);
        Ok(Self(Arc::new(Inner {
            current: RwLock::new(Current::read(settings)?),
            settings: settings.clone(),
            stamps: Mutex::new(stamps),
            told: Notify::new(),
        })))
    }

    /// What an operator should know of what is in force.
    pub fn tell(&self) {
        for warning in self.warnings() {
            warn!("{warning}");
        }
    }

    /// The URL of the page.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.0.settings.tls_certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/metrics", self.0.settings.listen)
    }

    /// Has the files read again, soon and by somebody else.
    pub fn read_again(&self) {
        self.0.told.notify_one();
    }

    /// For a new connection.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.current().tls
    }

    /// For a request; none where everybody may ask.
    pub(super) fn guard(&self) -> Option<Arc<Guard>> {
        self.current().guard
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps up with the files, for ever.
    pub(super) async fn follow(self) {
        if self.0.settings.files().next().is_none() {
            return std::future::pending().await;
        }
        let mut pace = tokio::time::interval(LOOK_EVERY);
        loop {
            let told = tokio::select! {
                () = self.0.told.notified() => true,
                _ = pace.tick() => false,
            };
            let access = self.clone();
            // A file system may take its time, and hashes and keys are worked on.
            if tokio::task::spawn_blocking(move || access.look(told)).await.is_err() {
                warn!("the look at the files of `export` broke off");
            }
        }
    }

    /// Reads the files if one has changed, or anyway.
    fn look(&self, anyway: bool) {
        let found = stamps(&self.0.settings);
        let mut known = self.0.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == found && !anyway {
            return;
        }
        *known = found;
        match Current::read(&self.0.settings) {
            Ok(next) => {
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = next;
                info!("certificates, tokens and passwords read again");
                self.open_files().for_each(|warning| warn!("{warning}"));
            }
            Err(error) => warn!("certificates, tokens and passwords stay as they were: {error:#}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let (settings, current) = (&self.0.settings, self.current());
        let mut warnings: Vec<String> = self.open_files().collect();
        if settings.listen.ip().to_canonical().is_loopback() {
            return warnings;
        }
        let listens = format!("the agent listens on {}, beyond this node", settings.listen);
        if current.guard.is_none() && settings.tls_client_ca.is_none() {
            warnings.push(format!(
                "{listens}, and whoever reaches it may read all it serves: set `export.bearer_token_file`, \
                 `export.basic_auth_file` or `export.tls_client_ca`, or keep others out by other means"
            ));
        } else if current.tls.is_none() {
            warnings.push(format!(
                "{listens}, and tokens and passwords come in clear text: set `export.tls_certificate` and `export.tls_key`"
            ));
        }
        warnings
    }

    /// Certificates are for everybody; the rest is not.
    fn open_files(&self) -> impl Iterator<Item = String> {
        let secret = |(key, path): (&'static str, &PathBuf)| {
            let open = matches!(key, "tls_key" | "bearer_token_file" | "basic_auth_file") && is_open(path);
            open.then(|| {
                format!("everybody on this node may read `export.{key}` {}: chmod o-r", path.display())
            })
        };
        self.0.settings.files().filter_map(secret)
    }
}

impl Current {
    fn read(settings: &Settings) -> Result<Self> {
        let (tokens, users) = (settings.bearer_token_file.as_deref(), settings.basic_auth_file.as_deref());
        Ok(Self { tls: tls::acceptor(settings)?, guard: Guard::read(tokens, users)?.map(Arc::new) })
    }
}

fn stamps(settings: &Settings) -> Vec<Option<Stamp>> {
    settings.files().map(|(_, path)| Stamp::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use axum::http::{HeaderMap, HeaderValue, header};

    use super::*;

    fn write(path: &std::path::Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    async fn admits(access: &Access, token: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        access.guard().unwrap().admit(&headers).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        write(&path, "token-number-one-1");
        let settings = Settings { bearer_token_file: Some(path.clone()), ..Settings::default() };
        let access = Access::load(&settings).unwrap();
        assert!(access.tls().is_none() && admits(&access, "token-number-one-1").await);
        let first = access.guard().unwrap();
        access.look(false);
        assert!(Arc::ptr_eq(&first, &access.guard().unwrap()), "nothing has changed");
        write(&path, "token-number-one-1\ntoken-number-two-2");
        access.look(false);
        assert!(admits(&access, "token-number-one-1").await && admits(&access, "token-number-two-2").await);
        for wrong in ["", "short"] {
            write(&path, wrong);
            access.look(false);
            assert!(admits(&access, "token-number-two-2").await);
        }
        fs::remove_file(&path).unwrap();
        access.look(true);
        assert!(admits(&access, "token-number-two-2").await);
        write(&path, "token-number-two-2");
        access.look(false);
        assert!(!admits(&access, "token-number-one-1").await && admits(&access, "token-number-two-2").await);
    }

    #[tokio::test]
    async fn who_is_told_reads_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        write(&path, "token-number-one-1");
        let settings = Settings { bearer_token_file: Some(path.clone()), ..Settings::default() };
        let access = Access::load(&settings).unwrap();
        let follows = tokio::spawn(access.clone().follow());
        // The first look is over when the second one has been taken up.
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(&path, "token-number-two-2");
        access.read_again();
        let began = std::time::Instant::now();
        while !admits(&access, "token-number-two-2").await {
            assert!(began.elapsed() < LOOK_EVERY / 2, "not read again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        follows.abort();
    }

    #[test]
    fn what_is_open_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        write(&path, "token-number-one-1");
        let check = |listen: &str, file: bool, expected: &[&str]| {
            let settings = Settings {
                listen: listen.parse().unwrap(),
                bearer_token_file: file.then(|| path.clone()),
                ..Settings::default()
            };
            let warnings = Access::load(&settings).unwrap().warnings();
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            assert!(warnings.iter().zip(expected).all(|(one, part)| one.contains(part)), "{warnings:?}");
        };
        check("127.0.0.1:1", false, &[]);
        check("[::1]:1", false, &[]);
        check("[::ffff:127.0.0.1]:1", false, &[]);
        check("127.0.0.1:1", true, &[]);
        check("0.0.0.0:1", false, &["may read all it serves"]);
        check("[::]:1", false, &["may read all it serves"]);
        check("192.0.2.1:1", true, &["come in clear text"]);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        check("127.0.0.1:1", true, &["may read `export.bearer_token_file` /"]);
    }

    #[test]
    fn a_wrong_file_is_an_error_at_the_start() {
        let settings = Settings { bearer_token_file: Some("/nowhere/t".into()), ..Settings::default() };
        let error = Access::load(&settings).err().unwrap();
        assert!(format!("{error:#}").starts_with("`export.bearer_token_file` /nowhere/t"), "{error:#}");
    }
}
