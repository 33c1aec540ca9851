//! Log lines on standard error, as text or JSON.
//!
//! In: `[log]` of the configuration. Out: a subscriber for the process, and a handle that changes its level.
//! Lines of libraries are kept only from `warn` on: theirs could hold bytes of a request, ours never do.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Ours, kernel programs (`inferscope_ebpf`) included.
const OWN_TARGETS: &str = "inferscope";

/// Section `log` of the configuration: what is written to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub format: Format,
    pub level: Level,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Changes the level of a process that logs.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Applies another level at once.
    ///
    /// # Errors
    /// The subscriber is gone, which only happens at the end of the process.
    pub fn set_level(&self, level: Level) -> Result<()> {
        self.0.reload(targets(level)).context("change the log level")
    }
}

/// Starts the log of the process.
///
/// # Errors
/// It has one already.
pub fn start(settings: &Settings) -> Result<LogHandle> {
    let (subscriber, handle) = subscriber(settings, std::io::stderr, std::io::stderr().is_terminal());
    subscriber.try_init().context("start the log")?;
    Ok(handle)
}

fn subscriber<W>(settings: &Settings, writer: W, colours: bool) -> (impl Subscriber + Send + Sync, LogHandle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let lines = match settings.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    (tracing_subscriber::registry().with(filter).with(lines), LogHandle(handle))
}

fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target(OWN_TARGETS, level)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `speak` runs.
    fn written(settings: &Settings, speak: impl FnOnce(&LogHandle)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) = subscriber(settings, move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || speak(&handle));
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn level_can_change_while_it_runs() {
        let text = written(&Settings::default(), |handle| {
            tracing::debug!("before");
            handle.set_level(Level::Debug).unwrap();
            tracing::debug!("after");
        });
        assert!(!text.contains("before") && text.contains("after"), "{text}");
    }

    #[test]
    fn libraries_are_heard_from_warn_on() {
        let settings = Settings { level: Level::Trace, ..Settings::default() };
        let text = written(&settings, |_| {
            tracing::trace!("ours");
            tracing::info!(target: "hyper", "their info");
            tracing::warn!(target: "hyper", "their warning");
        });
        assert!(text.contains("ours") && text.contains("their warning"), "{text}");
        assert!(!text.contains("their info"), "{text}");
    }

    #[test]
    fn json_lines_are_json() {
        let settings = Settings { format: Format::Json, ..Settings::default() };
        let text = written(&settings, |_| tracing::info!(port = 9940, "listening"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["port"]),
            (&"INFO".into(), &"listening".into(), &9940.into())
        );
    }
}
