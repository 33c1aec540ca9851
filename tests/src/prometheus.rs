//! A real Prometheus as a process, and what it answers.
//!
//! In: its binary and configuration. Out: the samples of an expression. It listens and scrapes on loopback
//! only, keeps its data in the folder it is given, and ends with its guard.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Guard, free_address};
use crate::oracle::http_get;
use crate::socket::Endpoint;
use crate::stage::until;

/// It may take this long until it answers.
const READY_TIME_MAX: Duration = Duration::from_secs(20);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    guard: Guard,
    pub address: SocketAddr,
    log: PathBuf,
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    pub labels: BTreeMap<String, String>,
    /// `None`: a native histogram.
    pub value: Option<f64>,
}

/// Major and minor version of a Prometheus.
///
/// # Errors
///
/// Where the binary does not say.
pub fn version(binary: &Path) -> Result<(u32, u32)> {
    let context = || format!("ask {} for its version", binary.display());
    let output = Command::new(binary).arg("--version").output().with_context(context)?;
    // Older ones say it on standard error.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let text = said.split("version ").nth(1).with_context(context)?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        bail!("{}: {said:?}", context())
    };
    Ok((major, minor))
}

impl Prometheus {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start(binary: &Path, folder: &Path, config: &str, flags: &[&str]) -> Result<Self> {
        let address = free_address()?;
        let (file, log) = (folder.join("prometheus.yml"), folder.join("prometheus.log"));
        std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .current_dir(folder)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("run {}", binary.display()))?;
        let mut prometheus = Self { guard: Guard(child), address, log };
        prometheus.wait_until_ready()?;
        Ok(prometheus)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let state = until(READY_TIME_MAX, || match self.guard.0.try_wait() {
            Ok(None) => http_get(&Endpoint::Tcp(self.address), "/-/ready").ok().map(|_| true),
            Ok(Some(_)) | Err(_) => Some(false),
        });
        if state == Some(true) {
            return Ok(());
        }
        bail!("prometheus does not start: {}", std::fs::read_to_string(&self.log)?);
    }

    /// The elements of an expression, now.
    ///
    /// # Errors
    ///
    /// Where it is refused.
    pub fn query(&self, expression: &str) -> Result<Vec<Element>> {
        let path = format!("/api/v1/query?query={}", escape(expression));
        parse(&http_get(&Endpoint::Tcp(self.address), &path)?).with_context(|| format!("query {expression}"))
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.guard.end().map(drop)
    }
}

/// For a query in a path: everything that could mean something there is escaped.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(byte.into());
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metric: BTreeMap<String, String>,
    value: Option<(Value, String)>,
}

fn parse(body: &[u8]) -> Result<Vec<Element>> {
    let answer: Answer = serde_json::from_slice(body).context("parse the answer")?;
    let element = |item: Item| -> Result<Element> {
        // NaN and +Inf are written as Rust reads them.
        let value = item.value.map(|(_, text)| text.parse()).transpose().context("parse a value")?;
        Ok(Element { labels: item.metric, value })
    };
    answer.data.result.into_iter().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_histograms_are_elements() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"model":"m"},"value":[1.5,"+Inf"]},{"metric":{},"histogram":[1.5,{"count":"3"}]}]}}"#;
        let elements = parse(body).unwrap();
        assert_eq!((elements[0].labels["model"].as_str(), elements[0].value), ("m", Some(f64::INFINITY)));
        assert_eq!(elements[1].value, None);
        assert!(parse(br#"{"status":"error","error":"x"}"#).is_err());
    }

    #[test]
    fn expressions_are_escaped_whole() {
        assert_eq!(escape("a_b{x=\"1\"} + 2"), "a%5Fb%7Bx%3D%221%22%7D%20%2B%202");
    }
}
