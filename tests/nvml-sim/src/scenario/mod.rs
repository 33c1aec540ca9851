//! What is true of the GPUs of a node, and when: read from a file, asked by the library and by tests.
//!
//! In: TOML. Out: [`Scenario`], and [`Scenario::at`], the truth at one time. It knows nothing of calls and handles.

pub mod failure;
pub mod gpu;
pub mod preset;
pub mod spans;
pub mod timeline;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use toml::{Table, Value};

use self::failure::{Absence, Calls, Fail, Hang};
pub use self::gpu::{Cause, Gpu};
use self::spans::{Span, Spans};
use crate::truth::At;

/// GPUs of a node, at most: more than any node has.
pub const GPUS_MAX: usize = 64;
const MODELS: &str = include_str!("models.toml");

/// One node's GPUs over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// When it begins: nanoseconds since boot. Without it, when the library is first initialised in a process.
    pub start_boot_ns: Option<u64>,
    pub driver_version: String,
    /// `12090` is 12.9.
    pub cuda_version: i32,
    /// Symbols of the library that this driver does not have yet: they answer "function not found".
    pub missing_symbols: Calls,
    pub fail: Vec<Fail>,
    pub hang: Vec<Hang>,
    /// In order of time.
    pub absences: Vec<Absence>,
    pub gpus: Vec<Gpu>,
    /// Of each GPU.
    pub(crate) throttles: Vec<Throttles>,
    /// Where files that it names begin.
    pub(crate) folder: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    start_boot_ns: Option<u64>,
    #[serde(default = "driver_version")]
    driver_version: String,
    #[serde(default = "cuda_version")]
    cuda_version: i32,
    #[serde(default)]
    missing_symbols: Calls,
    #[serde(default)]
    fail: Vec<Fail>,
    #[serde(default)]
    hang: Vec<Hang>,
    #[serde(default)]
    absence: Vec<Absence>,
    #[serde(default)]
    gpu: Vec<Table>,
}

/// Of CUDA 12.9: before fields were renumbered.
fn driver_version() -> String {
    "575.57.08".to_owned()
}

fn cuda_version() -> i32 {
    12_090
}

impl Scenario {
    /// # Errors
    /// It is not TOML, has a key that nobody knows, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        let written: Written = toml::from_str(text)?;
        let models: Table = toml::from_str(MODELS).context("read the models")?;
        ensure!(written.gpu.len() <= GPUS_MAX, "{} GPUs, {GPUS_MAX} are the limit", written.gpu.len());
        let gpus = written
            .gpu
            .into_iter()
            .enumerate()
            .map(|(index, gpu)| of_model(gpu, &models).with_context(|| format!("GPU {index}")))
            .collect::<Result<Vec<Gpu>>>()?;
        let throttles = gpus.iter().map(Throttles::new).collect::<Result<Vec<_>>>()?;
        let scenario = Self {
            start_boot_ns: written.start_boot_ns,
            driver_version: written.driver_version,
            cuda_version: written.cuda_version,
            missing_symbols: written.missing_symbols,
            fail: written.fail,
            hang: written.hang,
            absences: written.absence,
            gpus,
            throttles,
            folder: PathBuf::new(),
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// # Errors
    /// As [`Self::parse`], or the file cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let scenario = Self::parse(&text).with_context(|| format!("scenario {}", path.display()))?;
        Ok(Self { folder, ..scenario })
    }

    /// What is true at this time, nanoseconds since boot. It begins at 0 where the scenario has no start of its own.
    #[must_use]
    pub fn at(&self, boot_ns: u64) -> At<'_> {
        At::new(self, boot_ns.saturating_sub(self.start_boot_ns.unwrap_or_default()))
    }

    fn check(&self) -> Result<()> {
        let sorted = self.absences.is_sorted_by(|one, next| one.to <= next.from);
        ensure!(sorted, "absences of the driver that overlap, or are not in order of time");
        let of_gpus = self.gpus.iter().flat_map(|gpu| {
            let fails = gpu.fail.iter().map(Fail::span);
            let own = gpu.process.iter().map(gpu::Process::span);
            fails.chain(gpu.hang.iter().map(Hang::span)).chain(own)
        });
        let instances = self.gpus.iter().flat_map(|gpu| gpu.instance.iter().map(gpu::Instance::span));
        let own = self.fail.iter().map(Fail::span).chain(self.hang.iter().map(Hang::span));
        let mut spans = own.chain(self.absences.iter().map(Absence::span)).chain(of_gpus).chain(instances);
        ensure!(spans.all(|span| span.from < span.to), "`to` that is not after `from`");
        let endless = self.hang.iter().chain(self.gpus.iter().flat_map(|gpu| &gpu.hang));
        ensure!(endless.into_iter().all(|hang| hang.to < u64::MAX), "a hang without an end: `to`");
        for gpu in &self.gpus {
            let split = gpu.mig == Some(true);
            ensure!(split || gpu.instance.is_empty(), "instances of a GPU that is not split: `mig = true`");
        }
        Ok(())
    }
}

/// What a model has, and over it what the scenario says: key by key.
fn of_model(mut gpu: Table, models: &Table) -> Result<Gpu> {
    let mut whole = match gpu.remove("model") {
        None => Table::new(),
        Some(Value::String(name)) => match models.get(&name) {
            Some(Value::Table(model)) => model.clone(),
            _ => bail!("no model is called `{name}`"),
        },
        Some(other) => bail!("a model is a name, not {other}"),
    };
    let absent = match gpu.remove("absent") {
        None => Vec::new(),
        Some(keys) => keys.try_into::<Vec<String>>().context("`absent` lists keys of the model")?,
    };
    for key in absent {
        whole.remove(&key).ok_or_else(|| anyhow!("the model has no `{key}` that could be absent"))?;
    }
    whole.extend(gpu);
    Ok(Value::Table(whole).try_into()?)
}

/// Throttling by cause, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Throttles {
    causes: Vec<(Cause, Spans)>,
    pub(crate) thermal: Spans,
    pub(crate) any: Spans,
    /// Spans with a clock of their own.
    clocks: Vec<(Spans, u32)>,
}

impl Throttles {
    fn new(gpu: &Gpu) -> Result<Self> {
        let repeat = gpu.throttle_repeat.map(timeline::period).transpose().map_err(|error| anyhow!(error))?;
        let end = repeat.unwrap_or(u64::MAX);
        let fits = |span: Span| span.from < span.to && span.to <= end;
        ensure!(
            gpu.throttle.iter().all(|throttle| fits(throttle.span())),
            "throttling that ends before it begins, or after its repetition"
        );
        let of = |causes: &[Cause]| {
            let among = gpu.throttle.iter().filter(|throttle| causes.contains(&throttle.cause));
            Spans::new(among.map(gpu::Throttle::span), repeat)
        };
        let clock = |throttle: &gpu::Throttle| {
            throttle.sm_clock_mhz.map(|clock| (Spans::new([throttle.span()], repeat), clock))
        };
        Ok(Self {
            causes: Cause::ALL.iter().map(|cause| (*cause, of(&[*cause]))).collect(),
            thermal: of(&[Cause::SwThermal, Cause::HwThermal]),
            any: of(&Cause::ALL),
            clocks: gpu.throttle.iter().filter_map(clock).collect(),
        })
    }

    pub(crate) fn of(&self, cause: Cause) -> &Spans {
        // `causes` has every cause, in the order of the enumeration.
        &self.causes[cause as usize].1
    }

    pub(crate) fn causes(&self) -> impl Iterator<Item = &(Cause, Spans)> {
        self.causes.iter()
    }

    /// The lowest clock that throttling allows at this time.
    pub(crate) fn clock(&self, ns: u64) -> Option<u32> {
        self.clocks.iter().filter(|(spans, _)| spans.has(ns)).map(|(_, clock)| *clock).min()
    }
}
