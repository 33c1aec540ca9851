//! The series of this signal as they stand on the page.
//!
//! In: the [`Store`]. Out: families in a fixed order, their series in the order of their labels. A scrape
//! copies the list of series and encodes from the copy, so that adding a model does not wait for it.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::families::{COUNTERS, GEN_AI, HISTOGRAMS, LABELLED, Labelled, Plain};
use super::series::{
    INCOMPLETE, PairLabels, PairSeries, START_PHASES, Store, WorkloadLabels, WorkloadSeries,
};
use crate::registry::Registries;

type Pairs = [(PairLabels, Arc<PairSeries>)];
type Workloads = [(WorkloadLabels, Arc<WorkloadSeries>)];

/// Registers the series of `store`.
pub fn register(store: &Arc<Store>, registries: &mut Registries) {
    registries.common.register_collector(Box::new(Common(store.clone())));
    registries.classic.register_collector(Box::new(Histograms { store: store.clone(), native: false }));
    if let Some(native) = &mut registries.native {
        native.register_collector(Box::new(Histograms { store: store.clone(), native: true }));
    }
}

/// Counters and gauges.
#[derive(Debug)]
struct Common(Arc<Store>);

impl Collector for Common {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (pairs, workloads) = (self.0.pairs(), self.0.workloads());
        if !pairs.is_empty() {
            for family in COUNTERS {
                encode_plain(&mut encoder, &family, &pairs)?;
            }
            for family in LABELLED {
                encode_labelled(&mut encoder, &family, &pairs)?;
            }
            encode_in_flight(&mut encoder, &pairs)?;
            encode_p95(&mut encoder, &pairs)?;
            encode_cold_start(&mut encoder, &pairs)?;
        }
        if !workloads.is_empty() {
            encode_up(&mut encoder, &workloads)?;
            encode_http(&mut encoder, &workloads)?;
        }
        encode_records(&mut encoder, &self.0)
    }
}

fn encode_plain(encoder: &mut DescriptorEncoder<'_>, family: &Plain, pairs: &Pairs) -> Result<(), Error> {
    let mut family_encoder =
        encoder.encode_descriptor(family.name, family.help, None, MetricType::Counter)?;
    for (labels, series) in pairs {
        counter(family_encoder.encode_family(labels)?, (family.value)(series).get())?;
    }
    Ok(())
}

fn counter(mut encoder: MetricEncoder<'_>, value: u64) -> Result<(), Error> {
    encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn encode_labelled(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Labelled,
    pairs: &Pairs,
) -> Result<(), Error> {
    let mut family_encoder = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
    for (labels, series) in pairs {
        for (name, label, value) in (family.values)(series) {
            let labels = (labels.clone(), [(name, label)]);
            let mut series_encoder = family_encoder.encode_family(&labels)?;
            match family.kind {
                MetricType::Counter => counter(series_encoder, value)?,
                _ => series_encoder.encode_gauge(&value)?,
            }
        }
    }
    Ok(())
}

fn encode_in_flight(encoder: &mut DescriptorEncoder<'_>, pairs: &Pairs) -> Result<(), Error> {
    let help = "Inference requests under way.";
    let mut family = encoder.encode_descriptor("vllm_requests_in_flight", help, None, MetricType::Gauge)?;
    for (labels, series) in pairs {
        family.encode_family(labels)?.encode_gauge(&series.in_flight.get())?;
    }
    Ok(())
}

fn encode_p95(encoder: &mut DescriptorEncoder<'_>, pairs: &Pairs) -> Result<(), Error> {
    let present: Vec<_> =
        pairs.iter().filter_map(|(labels, series)| Some((labels, series.p95.get()?))).collect();
    if present.is_empty() {
        return Ok(());
    }
    let help = "95th percentile of the request duration over the last 5 minutes.";
    let mut family =
        encoder.encode_descriptor("inference_latency_p95", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (labels, seconds) in present {
        family.encode_family(labels)?.encode_gauge(&seconds)?;
    }
    Ok(())
}

fn encode_cold_start(encoder: &mut DescriptorEncoder<'_>, pairs: &Pairs) -> Result<(), Error> {
    let present: Vec<_> = pairs
        .iter()
        .flat_map(|(labels, series)| {
            let phases = START_PHASES.iter().zip(&series.cold_start);
            phases.filter_map(move |(phase, value)| Some((labels, *phase, value.get()?)))
        })
        .collect();
    if present.is_empty() {
        return Ok(());
    }
    let help = "Start of the server's first process, to the end of each phase of its latest start.";
    let mut family =
        encoder.encode_descriptor("vllm_cold_start", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (labels, phase, seconds) in present {
        family.encode_family(&(labels.clone(), [("phase", phase)]))?.encode_gauge(&seconds)?;
    }
    Ok(())
}

fn encode_up(encoder: &mut DescriptorEncoder<'_>, workloads: &Workloads) -> Result<(), Error> {
    let help = "Whether the workload serves: it runs, listens, has its engines, is not stopped, and answers.";
    let mut family = encoder.encode_descriptor("vllm_workload_up", help, None, MetricType::Gauge)?;
    for (labels, series) in workloads {
        family.encode_family(labels)?.encode_gauge(&series.up.get())?;
    }
    Ok(())
}

fn encode_http(encoder: &mut DescriptorEncoder<'_>, workloads: &Workloads) -> Result<(), Error> {
    let help = "Requests to routes that are not in latency.";
    let mut family =
        encoder.encode_descriptor("inferscope_http_requests", help, None, MetricType::Counter)?;
    for (labels, series) in workloads {
        for ((route, code), count) in series.http() {
            let labels = (labels.clone(), vec![("route", route.to_owned()), ("code", code.label())]);
            counter(family.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

fn encode_records(encoder: &mut DescriptorEncoder<'_>, store: &Store) -> Result<(), Error> {
    let help =
        "Records of requests that missed bytes and were kept out of the histograms they would falsify.";
    let mut family =
        encoder.encode_descriptor("inferscope_records_incomplete", help, None, MetricType::Counter)?;
    for (reason, count) in INCOMPLETE.iter().zip(&store.incomplete) {
        counter(family.encode_family(&[("reason", reason.label())])?, count.get())?;
    }
    let help = "Records for which there was no room among the series.";
    let name = "inferscope_records_without_series";
    let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    counter(family, store.without_series.get())
}

/// The distributions, with exemplars or with native buckets.
#[derive(Debug)]
struct Histograms {
    store: Arc<Store>,
    native: bool,
}

impl Collector for Histograms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let pairs = self.store.pairs();
        if pairs.is_empty() {
            return Ok(());
        }
        for family in HISTOGRAMS {
            let mut family_encoder = encoder.encode_descriptor(
                family.name,
                family.help,
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?;
            for (labels, series) in &pairs {
                let distribution = (family.value)(series);
                let series_encoder = family_encoder.encode_family(labels)?;
                match &distribution.native {
                    Some(native) if self.native => native.encode(series_encoder)?,
                    _ => distribution.classic.encode(series_encoder)?,
                }
            }
        }
        if self.store.opentelemetry() { encode_gen_ai(&mut encoder, &pairs) } else { Ok(()) }
    }
}

fn encode_gen_ai(encoder: &mut DescriptorEncoder<'_>, pairs: &Pairs) -> Result<(), Error> {
    for family in GEN_AI {
        let mut family_encoder =
            encoder.encode_descriptor(family.name, family.help, None, MetricType::Histogram)?;
        for (labels, series) in pairs {
            if let Some(gen_ai) = &series.gen_ai {
                (family.value)(gen_ai).encode(family_encoder.encode_family(labels)?)?;
            }
        }
    }
    Ok(())
}
