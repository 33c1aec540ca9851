//! How is it served? One HTTP server: `/metrics`, `/healthz`, `/readyz`, `/api/v1/...` and an index.
//!
//! In: the registries, the health of the agent and what signals show. Out: pages. Reads only; nothing here
//! makes the pipeline wait. The default address is loopback, in clear text and open to all of the node; beyond that there
//! are TLS and authentication, by configuration.

pub mod access;
mod answers;
pub mod api;
pub mod auth;
mod http;
pub mod negotiate;
mod places;
mod secret;
#[cfg(test)]
mod testing;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::access::Access;
pub use self::http::{CONNECTIONS_MAX, HEADER_TIMEOUT, serve};
use crate::health::Health;
use crate::registry::Registries;
use crate::signal::canary::view::CanaryView;
use crate::signal::drift::view::PredictionsView;
use crate::signal::gpu::view::GpusView;
use crate::signal::latency::view::LatencyView;
use crate::signal::live::view::ChangesView;
use crate::signal::mmlu::view::EvaluationsView;
use crate::signal::slow::SlowView;
use crate::signal::stalls::view::StallsView;

/// Section `export` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Serve protobuf with native histograms to a scraper that asks for it. Only for scrape jobs that keep
    /// the classic buckets too: without, a Prometheus with native histograms on loses them.
    pub native_histograms: bool,
    /// Export OpenTelemetry's names too: `gen_ai_server_...`.
    pub opentelemetry: bool,
    /// Certificate and those that it leans on, as PEM. With it TLS is served, and nothing else.
    #[serde(deserialize_with = "unless_empty", skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, as PEM.
    #[serde(deserialize_with = "unless_empty", skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Certificates of whoever signs those that clients then have to show, as PEM.
    #[serde(deserialize_with = "unless_empty", skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<PathBuf>,
    /// Tokens, one a line: a client names one of them.
    #[serde(deserialize_with = "unless_empty", skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Names with the bcrypt hashes of their passwords, as `htpasswd -B` writes them.
    #[serde(deserialize_with = "unless_empty", skip_serializing_if = "Option::is_none")]
    pub basic_auth_file: Option<PathBuf>,
}

/// Port unless the configuration says otherwise.
pub const PORT: u16 = 9940;

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            native_histograms: false,
            opentelemetry: false,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            bearer_token_file: None,
            basic_auth_file: None,
        }
    }
}

impl Settings {
    /// # Errors
    /// Keys that make no sense without another; the error names both.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.tls_certificate.is_some() == self.tls_key.is_some(),
            "`export.tls_certificate` and `export.tls_key` need each other: {} is missing",
            if self.tls_key.is_some() { "the first" } else { "the second" }
        );
        ensure!(
            self.tls_client_ca.is_none() || self.tls_certificate.is_some(),
            "`export.tls_client_ca` needs `export.tls_certificate` and `export.tls_key`: without TLS nobody shows a certificate"
        );
        for (key, path) in self.files() {
            ensure!(path.is_absolute(), "`export.{key}` is {}, no full path", path.display());
        }
        Ok(())
    }

    /// The files that are named, with their keys.
    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [
            ("tls_certificate", &self.tls_certificate),
            ("tls_key", &self.tls_key),
            ("tls_client_ca", &self.tls_client_ca),
            ("bearer_token_file", &self.bearer_token_file),
            ("basic_auth_file", &self.basic_auth_file),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path.as_ref()?)))
    }
}

/// An empty text turns off what a file or a variable of the environment would turn on.
fn unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// All that the server shows.
#[derive(Debug)]
pub struct Shared {
    pub registries: Registries,
    pub health: Health,
    pub latency: LatencyView,
    pub slow: SlowView,
    pub stalls: StallsView,
    pub gpus: GpusView,
    pub predictions: PredictionsView,
    pub evaluations: EvaluationsView,
    pub canary: CanaryView,
    pub changes: ChangesView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default_and_an_unknown_key_is_refused() {
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
        let settings: Settings = toml::from_str("listen = \"[::1]:1\"\nnative_histograms = true").unwrap();
        assert_eq!(settings.listen, "[::1]:1".parse().unwrap());
        assert!(settings.native_histograms && !settings.opentelemetry);
        assert!(toml::from_str::<Settings>("port = 1").is_err());
    }

    #[test]
    fn empty_is_off_and_halves_are_refused() {
        let check = |text: &str, expected: &str| {
            let outcome = toml::from_str::<Settings>(text).unwrap().check();
            let said = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                if expected.is_empty() { said.is_empty() } else { said.contains(expected) },
                "{text}: {said}"
            );
        };
        check("tls_certificate = \"\"\ntls_key = \"\"\nbearer_token_file = \"\"", "");
        check("tls_certificate = \"/c\"\ntls_key = \"/k\"\ntls_client_ca = \"/a\"", "");
        check("tls_certificate = \"/c\"", "need each other: the second is missing");
        check("tls_key = \"/k\"", "need each other: the first is missing");
        check("tls_client_ca = \"/a\"", "needs `export.tls_certificate`");
        check("bearer_token_file = \"t\"", "`export.bearer_token_file` is t, no full path");
    }
}
