//! Who the endpoint turned away, and why.
//!
//! In: what the HTTP server tells. Out: counters, each from the start at 0, so that its rate is known at the first one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a TLS handshake led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long.
    Late,
    /// The client went away; a look at whether the port is open is one of these.
    Closed,
    /// The client showed no certificate that is known here.
    Certificate,
    /// The client does not take the agent's certificate, or nothing that it offers.
    Refused,
    /// What the client spoke is no TLS, or has nothing in common.
    Protocol,
}

/// Why a request was not answered: by what it named itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// It named neither token nor password.
    Missing,
    /// What it named is not known.
    Wrong,
    /// So many passwords wait to be checked that this one was not.
    Busy,
}

impl HandshakeFailure {
    const ALL: [Self; 5] = [Self::Late, Self::Closed, Self::Certificate, Self::Refused, Self::Protocol];

    /// Value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Closed => "closed",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

impl Unauthorized {
    const ALL: [Self; 3] = [Self::Missing, Self::Wrong, Self::Busy];

    /// Value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Busy => "busy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    connections: Counter,
    handshakes: Family<Labels, Counter>,
    unauthorized: Family<Labels, Counter>,
}

impl Endpoint {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "HTTP connections refused because there were too many";
        registry.register("inferscope_http_connections_refused", help, self.connections.clone());
        for failure in HandshakeFailure::ALL {
            drop(self.handshakes.get_or_create(&Labels { reason: failure.label() }));
        }
        let help = "TLS handshakes that led to nothing, by reason";
        registry.register("inferscope_http_handshakes_failed", help, self.handshakes.clone());
        for refusal in Unauthorized::ALL {
            drop(self.unauthorized.get_or_create(&Labels { reason: refusal.label() }));
        }
        let help = "HTTP requests not answered for want of a token or password, by reason";
        registry.register("inferscope_http_requests_unauthorized", help, self.unauthorized.clone());
    }

    pub(super) fn refuse_connection(&self) {
        self.connections.inc();
    }

    pub(super) fn fail_handshake(&self, failure: HandshakeFailure) {
        self.handshakes.get_or_create(&Labels { reason: failure.label() }).inc();
    }

    pub(super) fn refuse_request(&self, refusal: Unauthorized) {
        self.unauthorized.get_or_create(&Labels { reason: refusal.label() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn every_reason_is_there_from_the_start() {
        let (endpoint, mut registry) = (Endpoint::default(), Registry::default());
        endpoint.register(&mut registry);
        endpoint.fail_handshake(HandshakeFailure::Late);
        endpoint.refuse_request(Unauthorized::Wrong);
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).unwrap();
        for line in [
            "inferscope_http_connections_refused_total 0",
            r#"inferscope_http_handshakes_failed_total{reason="late"} 1"#,
            r#"inferscope_http_handshakes_failed_total{reason="closed"} 0"#,
            r#"inferscope_http_handshakes_failed_total{reason="certificate"} 0"#,
            r#"inferscope_http_handshakes_failed_total{reason="refused"} 0"#,
            r#"inferscope_http_handshakes_failed_total{reason="protocol"} 0"#,
            r#"inferscope_http_requests_unauthorized_total{reason="missing"} 0"#,
            r#"inferscope_http_requests_unauthorized_total{reason="wrong"} 1"#,
            r#"inferscope_http_requests_unauthorized_total{reason="busy"} 0"#,
        ] {
            assert!(page.lines().any(|other| other == line), "{line} on {page}");
        }
    }
}
