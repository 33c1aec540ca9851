//! What a server loses by being observed: by the agent, and by what one would attach instead.
//!
//! In: the scripted server at full speed, who can be attached. Out: for each, the ratio of what was served with it to
//! what was served without anybody, as medians of pairs with confidence intervals.
//!
//! Rounds go: nobody, A, nobody, B, ..., nobody. An observer is started before its window and stopped after it, and
//! its window is compared with the mean of the two windows without anybody beside it, so what the machine does slowly
//! is in both. The order turns from round to round. Clients and observers share the machine with the server: what they
//! take is missing to it, as on a node without a free processor.

mod contender;
mod demand;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

pub use demand::Served;
pub use table::{Absent, Beside, Counted, DemandTable, Ratios};

use contender::{Contender, Place, TOOLS, Told};
use demand::{DEMANDS, STREAMED_EVENTS};

use crate::fake_server::Script;
use crate::harness::ServerProcess;

use super::interval::{Interval, median};
use super::process::{cpu_time, cpu_time_since, share_percent};
use super::say;
use super::scene::{address_of, start_demo_server};

/// Windows of one round, in the order of [`DEMANDS`].
type Windows = [Served; DEMANDS.len()];

/// What is asked for.
pub(super) struct Wish<'a> {
    pub(super) agent: &'a Path,
    pub(super) demo_server: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) pairs: usize,
    /// Also what one would attach instead.
    pub(super) others: bool,
}

/// One contender's pairs.
#[derive(Default)]
struct Kept {
    /// With it, and the mean without anybody.
    pairs: Vec<(Windows, Windows)>,
    made: u64,
    requests: Option<f64>,
    lost: Option<f64>,
    /// Processor time of the observer itself, percent of a core, in each round.
    own_percent: Vec<f64>,
}

/// What came of one round of one contender.
struct Observed {
    with: Windows,
    made: u64,
    told: Told,
    own_percent: f64,
}

pub(super) fn compare(wish: &Wish<'_>) -> Result<Beside> {
    let place = Place { agent: wish.agent, folder: wish.folder };
    let (contenders, absent) = choose(wish, &place)?;
    let mut kept: BTreeMap<&'static str, Kept> = BTreeMap::new();
    let mut alone = Vec::new();
    for round in 0..wish.pairs {
        say(&format!("a server with and without observers, round {} of {}", round + 1, wish.pairs));
        // A server of its own for each round: it remembers what it served.
        let server = start_server(wish)?;
        let (mut before, _) = windows(&server)?;
        for turn in 0..contenders.len() {
            let contender = contenders[(round + turn) % contenders.len()];
            let observed = observed(contender, &place, &server)?;
            let (after, _) = windows(&server)?;
            kept.entry(contender.name()).or_default().add(&observed, mean(&before, &after));
            alone.push(before);
            before = after;
        }
        server.stop()?;
    }
    Ok(Beside {
        pairs: wish.pairs,
        demands: (0..DEMANDS.len()).map(|nth| table_of(nth, &contenders, &kept, &alone)).collect(),
        counted: contenders.iter().map(|one| counted_of(*one, &kept)).collect(),
        absent,
    })
}

/// Who runs here; who does not, and why.
fn choose(wish: &Wish<'_>, place: &Place<'_>) -> Result<(Vec<Contender>, Vec<Absent>)> {
    let (mut contenders, mut absent) = (vec![Contender::Agent], Vec::new());
    if !wish.others {
        return Ok((contenders, absent));
    }
    let server = start_server(wish)?;
    for tool in &TOOLS {
        say(&format!("whether {} runs here", tool.name));
        let contender = Contender::Tool(tool);
        match contender.start(place, server.tgid()).and_then(contender::Observer::stop) {
            Ok(_) => contenders.push(contender),
            Err(error) => absent.push(Absent { name: tool.name, why: format!("{error:#}") }),
        }
    }
    server.stop()?;
    Ok((contenders, absent))
}

fn start_server(wish: &Wish<'_>) -> Result<ServerProcess> {
    let script = Script {
        content: STREAMED_EVENTS,
        head_after_us: 0,
        first_after_us: 0,
        gaps_us: Vec::new(),
        ..Script::default()
    };
    start_demo_server(wish.demo_server, Some(&script.to_header()))
}

fn observed(contender: Contender, place: &Place<'_>, server: &ServerProcess) -> Result<Observed> {
    let context = || format!("observe by {}", contender.name());
    let observer = contender.start(place, server.tgid()).with_context(context)?;
    let (began, before) = (Instant::now(), cpu_time(observer.tgid())?);
    let (with, made) = windows(server)?;
    let own = cpu_time_since(observer.tgid(), before)?;
    let own_percent = share_percent(own, began.elapsed());
    let told = observer.stop().with_context(context)?;
    Ok(Observed { with, made, told, own_percent })
}

/// Every demand in turn, and how many requests that were.
fn windows(server: &ServerProcess) -> Result<(Windows, u64)> {
    let (mut windows, mut made) = (Windows::default(), 0);
    for (window, demand) in windows.iter_mut().zip(DEMANDS) {
        let (served, requests) = demand::make(demand, address_of(server)?, server.tgid())
            .with_context(|| format!("make load: {}", demand.name))?;
        *window = served;
        made += requests;
    }
    Ok((windows, made))
}

fn mean(one: &Windows, other: &Windows) -> Windows {
    let mut mean = *one;
    for (mean, other) in mean.iter_mut().zip(other) {
        for quantity in QUANTITIES {
            let (value, other) = (quantity.of_mut(mean), quantity.of(other));
            *value = f64::midpoint(*value, other);
        }
    }
    mean
}

impl Kept {
    fn add(&mut self, observed: &Observed, without: Windows) {
        self.pairs.push((observed.with, without));
        self.made += observed.made;
        self.own_percent.push(observed.own_percent);
        for (sum, more) in
            [(&mut self.requests, observed.told.requests), (&mut self.lost, observed.told.lost)]
        {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0.0) + more);
            }
        }
    }
}

/// What is compared.
#[derive(Clone, Copy)]
enum Quantity {
    Rate,
    P50,
    P99,
    Cpu,
}

const QUANTITIES: [Quantity; 4] = [Quantity::Rate, Quantity::P50, Quantity::P99, Quantity::Cpu];

impl Quantity {
    fn of(self, served: &Served) -> f64 {
        match self {
            Self::Rate => served.requests_per_second,
            Self::P50 => served.p50_ms,
            Self::P99 => served.p99_ms,
            Self::Cpu => served.server_cpu_us,
        }
    }

    fn of_mut(self, served: &mut Served) -> &mut f64 {
        match self {
            Self::Rate => &mut served.requests_per_second,
            Self::P50 => &mut served.p50_ms,
            Self::P99 => &mut served.p99_ms,
            Self::Cpu => &mut served.server_cpu_us,
        }
    }
}

fn table_of(
    nth: usize,
    contenders: &[Contender],
    kept: &BTreeMap<&'static str, Kept>,
    alone: &[Windows],
) -> DemandTable {
    let mut typical = Served::default();
    for quantity in QUANTITIES {
        *quantity.of_mut(&mut typical) = middle(alone.iter().map(|windows| quantity.of(&windows[nth])));
    }
    let rows = contenders.iter().filter_map(|contender| {
        let pairs = &kept.get(contender.name())?.pairs;
        let of = |quantity: Quantity| {
            let ratios =
                pairs.iter().map(|(with, without)| quantity.of(&with[nth]) / quantity.of(&without[nth]));
            Interval::of(&ratios.collect::<Vec<_>>())
        };
        Some(Ratios {
            observer: contender.name(),
            requests_per_second: of(Quantity::Rate)?,
            p50: of(Quantity::P50)?,
            p99: of(Quantity::P99)?,
            server_cpu: of(Quantity::Cpu)?,
            server_cpu_added_us: middle(
                pairs.iter().map(|(with, without)| with[nth].server_cpu_us - without[nth].server_cpu_us),
            ),
        })
    });
    DemandTable { demand: DEMANDS[nth].name, alone: typical, rows: rows.collect() }
}

/// The median.
fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    median(&values).unwrap_or(f64::NAN)
}

fn counted_of(contender: Contender, kept: &BTreeMap<&'static str, Kept>) -> Counted {
    let found = kept.get(contender.name());
    let (made, requests) = found.map_or((0, None), |kept| (kept.made, kept.requests));
    Counted {
        observer: contender.name(),
        answers: contender.answers(),
        made,
        counted: requests,
        lost_and_told: found.and_then(|kept| kept.lost),
        own_cpu_percent: found.map_or(f64::NAN, |kept| middle(kept.own_percent.iter().copied())),
    }
}

/// At least so many pairs say something; more than so many take an hour.
pub const PAIRS_MIN: usize = 6;
pub const PAIRS_MAX: usize = 100;

pub(super) fn check_pairs(pairs: usize) -> Result<()> {
    ensure!((PAIRS_MIN..=PAIRS_MAX).contains(&pairs), "pairs are from {PAIRS_MIN} to {PAIRS_MAX}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(rate: f64) -> Served {
        Served { requests_per_second: rate, p50_ms: 1.0, p99_ms: 2.0, server_cpu_us: 100.0 }
    }

    #[test]
    fn a_window_is_compared_with_those_before_and_after_it() {
        let without = mean(&[served(90.0), served(1.0)], &[served(110.0), served(3.0)]);
        assert!((without[0].requests_per_second - 100.0).abs() < 1e-9);
        assert!((without[1].requests_per_second - 2.0).abs() < 1e-9);
        let pairs = vec![([served(95.0), served(2.0)], without); 6];
        let kept = BTreeMap::from([(Contender::Agent.name(), Kept { pairs, ..Kept::default() })]);
        let table = table_of(0, &[Contender::Agent], &kept, &[without]);
        assert!((table.rows[0].requests_per_second.median - 0.95).abs() < 1e-9, "{table:?}");
        assert_eq!((table.rows[0].p99.low, table.rows[0].p99.high), (Some(1.0), Some(1.0)));
    }
}
