//! How an agent begins, is told to reload, and ends: signals of the kernel and the service manager.
//!
//! In: SIGHUP, SIGTERM, SIGINT. Out: [`LifecycleEvent`]s for the pipeline to select on, and what the service
//! manager is told. What a reload or an end means is the pipeline's business. Alone sees to it that an agent
//! that crashes leaves no memory behind.

pub mod lock;
pub mod logs;
pub mod privileges;
mod system_calls;

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From the request to stop to the end of the process, at most.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Sees to it that this process never leaves its memory in a core file: it holds bytes of requests.
///
/// # Errors
/// The kernel refuses, which it has no reason to.
pub fn refuse_core_files() -> Result<()> {
    // The kernel does not heed the limit where `core_pattern` is a program; that one is told of it.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("allow no core files")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("turn core dumps off")
}

/// What the pipeline is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleEvent {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: end within [`STOP_WITHIN`].
    Stop,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Lifecycle {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Lifecycle {
    /// Takes the signals over: from here on none of them ends the process by itself.
    ///
    /// # Errors
    /// Not inside a runtime, or the kernel refuses.
    pub fn listen() -> Result<Self> {
        let listen = |kind, name: &str| signal(kind).with_context(|| format!("listen for {name}"));
        Ok(Self {
            hangup: listen(SignalKind::hangup(), "SIGHUP")?,
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// The next one. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> LifecycleEvent {
        tokio::select! {
            // An end goes before a reload that came at the same time.
            biased;
            _ = self.terminate.recv() => LifecycleEvent::Stop,
            _ = self.interrupt.recv() => LifecycleEvent::Stop,
            _ = self.hangup.recv() => LifecycleEvent::Reload,
        }
    }
}

/// Where the service manager listens, if there is one.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// What the service manager (systemd) is told; silent where there is none. Connected once and for all: a
/// confined agent connects to nothing.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Of this process, as its environment says.
    #[must_use]
    pub fn of_process() -> Self {
        let connected = std::env::var_os(NOTIFY_SOCKET).and_then(|address| {
            let connected = connect(&address);
            connected.inspect_err(|error| tracing::warn!(%error, "connect to the service manager")).ok()
        });
        Self { socket: connected, watchdog: sd_notify::watchdog_enabled() }
    }

    /// The agent measures and serves; `status` is shown by `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload began; [`Self::ready`] ends it, whether it took the new configuration or kept the old.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "read the clock for the service manager"),
        }
    }

    /// The end began.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// The pipeline goes round; the watchdog wants to hear it.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: String = state.iter().map(|line| format!("{line}\n")).collect();
        if let Err(error) = socket.send(lines.as_bytes()) {
            tracing::warn!(%error, "tell the service manager");
        }
    }
}

fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Kind, getpid, kill_process};

    use super::*;

    // One test: signals reach every listener of a process, so two tests would hear each other.
    #[tokio::test]
    async fn signals_become_events_and_stop_goes_first() {
        let mut lifecycle = Lifecycle::listen().unwrap();
        let rows = [
            (Kind::HUP, LifecycleEvent::Reload),
            (Kind::TERM, LifecycleEvent::Stop),
            (Kind::INT, LifecycleEvent::Stop),
        ];
        for (kind, expected) in rows {
            kill_process(getpid(), kind).unwrap();
            let event = tokio::time::timeout(Duration::from_secs(10), lifecycle.next()).await.unwrap();
            assert_eq!(event, expected, "{kind:?}");
        }

        kill_process(getpid(), Kind::HUP).unwrap();
        kill_process(getpid(), Kind::TERM).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(lifecycle.next().await, LifecycleEvent::Stop);
        assert_eq!(lifecycle.next().await, LifecycleEvent::Reload);
    }

    /// What a manager heard, and whether the watchdog is on, as the environment of the process says.
    #[test]
    fn without_a_manager_all_is_silent() {
        let manager = ServiceManager::of_process();
        manager.ready("measures");
        manager.alive();
        manager.reloading();
        manager.stopping();
        let expected = std::env::var_os("NOTIFY_SOCKET").map(|_| Duration::from_secs(60));
        assert_eq!(manager.watchdog, expected);
    }

    #[test]
    fn manager_hears_what_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        // The environment belongs to a process: the test above, in a process that has a manager.
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::tests::without_a_manager_all_is_silent"])
            .envs([("NOTIFY_SOCKET", path.as_os_str()), ("WATCHDOG_USEC", "60000000".as_ref())])
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));

        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 256];
        let heard = std::iter::from_fn(|| {
            let len = socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
        });
        let heard: Vec<String> = heard.collect();
        let began = heard.iter().map(|message| message.lines().next().unwrap_or_default());
        assert_eq!(began.collect::<Vec<_>>(), ["READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1"]);
        assert!(heard[0].contains("STATUS=measures") && heard[2].contains("MONOTONIC_USEC="), "{heard:?}");
    }
}
