//! How is it served? One HTTP server: `/metrics`, `/healthz`, `/readyz`, `/api/v1/...` and an index.
//!
//! In: the registries, the health of the agent and what signals show. Out: pages. Reads only; nothing here
//! makes the pipeline wait. No authentication and no TLS: the default address is loopback.

mod answers;
pub mod api;
mod http;
pub mod negotiate;
mod places;

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

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
}

/// Port unless the configuration says otherwise.
pub const PORT: u16 = 9940;

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            native_histograms: false,
            opentelemetry: false,
        }
    }
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
}
