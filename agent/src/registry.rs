//! The series of the agent, as a scrape reads them.
//!
//! In: what signals and the agent's own health register. Out: one page per exposition format. Does not
//! know HTTP. Encoding takes only the short locks of single series, so nobody waits for a scrape.

pub mod by_source;
pub mod latest;
pub mod totals;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use prometheus_client::encoding::{prometheus_protobuf, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use by_source::BySource;

/// Room for a page before it grows: about 2,000 series.
const PAGE_BYTES: usize = 256 * 1024;

/// Everything that is exported. A histogram with exemplars has no native side in the library, so the
/// latency histograms are in two registries, of which every page shows one.
#[derive(Debug, Default)]
pub struct Registries {
    /// On every page.
    pub common: Registry,
    /// On the text pages: classic histograms with exemplars.
    pub classic: Registry,
    /// On the protobuf page: the same histograms, classic and native in one. `None` where it is off.
    pub native: Option<Registry>,
    confidence: Option<BySource>,
    validation_accuracy: Option<BySource>,
}

impl Registries {
    /// Empty ones; protobuf is served where `native` is set.
    #[must_use]
    pub fn new(native: bool) -> Self {
        Self { native: native.then(Registry::default), ..Self::default() }
    }

    // Families that several signals feed are registered when the first asks for them, since the library would put a
    // second one of the same name beside it.

    /// `prediction_confidence`, 0 to 1: how sure models are.
    pub fn confidence(&mut self) -> BySource {
        let help = "Mean confidence: of answers of the last 5 minutes, their geometric mean token probability; \
                    of files, the newest predictions; of the canary, its newest run";
        let registered = || BySource::registered(&mut self.common, "prediction_confidence", help);
        self.confidence.get_or_insert_with(registered).clone()
    }

    /// `model_validation_accuracy`, 0 to 1: how often models are right on a fixed set.
    pub fn validation_accuracy(&mut self) -> BySource {
        let help = "Share of a fixed set that is right: of files, predictions of the validation set; \
                    of the canary, questions of its newest run";
        let registered = || BySource::registered(&mut self.common, "model_validation_accuracy", help);
        self.validation_accuracy.get_or_insert_with(registered).clone()
    }

    /// The page as OpenMetrics 1.0.0, with exemplars.
    ///
    /// # Errors
    /// A series that cannot be written.
    pub fn openmetrics(&self) -> Result<Vec<u8>> {
        let mut page = String::with_capacity(PAGE_BYTES);
        text::encode_registry(&mut page, &self.common)
            .and_then(|()| text::encode_registry(&mut page, &self.classic))
            .and_then(|()| text::encode_eof(&mut page))
            .context("encode the page as openmetrics")?;
        Ok(page.into_bytes())
    }

    /// The page as Prometheus text 0.0.4.
    ///
    /// # Errors
    /// As [`Self::openmetrics`].
    pub fn text(&self) -> Result<Vec<u8>> {
        let mut page = String::with_capacity(PAGE_BYTES);
        prometheus_text::encode(&mut page, &self.common)
            .and_then(|()| prometheus_text::encode(&mut page, &self.classic))
            .context("encode the page as text")?;
        Ok(page.into_bytes())
    }

    /// The page as delimited protobuf with native histograms; `None` where it is off.
    ///
    /// # Errors
    /// As [`Self::openmetrics`].
    pub fn protobuf(&self) -> Result<Option<Vec<u8>>> {
        let Some(native) = &self.native else { return Ok(None) };
        // Delimited messages: two pages one after the other are one page.
        let mut page = encode_protobuf(&self.common)?;
        page.extend(encode_protobuf(native)?);
        Ok(Some(page))
    }
}

fn encode_protobuf(registry: &Registry) -> Result<Vec<u8>> {
    prometheus_protobuf::encode_to_vec(registry).context("encode the page as protobuf")
}

/// A counter of seconds or other measures that are not whole.
pub type FloatCounter = Counter<f64, AtomicU64>;

/// A value that may be absent, shared with the scrape as one atomic.
pub struct OptionalGauge(AtomicU64);

/// No measurement is this pattern: it is one of the not-a-numbers.
const ABSENT: u64 = u64::MAX;

impl OptionalGauge {
    /// One that has no value yet.
    #[must_use]
    pub fn absent() -> Self {
        Self(ABSENT.into())
    }

    /// Sets or removes the value.
    pub fn set(&self, value: Option<f64>) {
        self.0.store(value.map_or(ABSENT, f64::to_bits), Ordering::Relaxed);
    }

    /// The value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != ABSENT).then(|| f64::from_bits(bits))
    }
}

impl fmt::Debug for OptionalGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.get())
    }
}
