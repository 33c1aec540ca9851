//! Counts over 50 bins on [0, 1], and the distances between two of them.
//!
//! The edges are NumPy's: `i * 0.02`, rounded to the type of the data, and the last bin holds 1 too. To multiply by 50
//! and cut off puts numbers with two decimals into the wrong bin.

use crate::quality::npy::{Array, Kind};

pub(super) const COUNT: usize = 50;
/// What an empty bin counts for where a score is smoothed.
const EMPTY_SHARE: f64 = 1e-4;

pub(super) struct Bins {
    counts: [u64; COUNT],
}

impl Bins {
    pub fn of(array: &Array) -> Self {
        let edges = edges(array.kind);
        let mut counts = [0; COUNT];
        for value in &array.values {
            // False for NaN as well.
            if *value >= edges[0] && *value <= edges[COUNT] {
                counts[bin(*value, &edges)] += 1;
            }
        }
        Self { counts }
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bin's share. NaN where there is nothing.
    fn shares(&self) -> [f64; COUNT] {
        let total = self.total() as f64;
        self.counts.map(|count| count as f64 / total)
    }

    fn shares_without_zero(&self) -> [f64; COUNT] {
        self.shares().map(|share| if share == 0.0 { EMPTY_SHARE } else { share })
    }
}

fn edges(kind: Kind) -> [f64; COUNT + 1] {
    let exact: [f64; COUNT + 1] = std::array::from_fn(|i| if i == COUNT { 1.0 } else { i as f64 * 0.02 });
    match kind {
        Kind::Float(2) => exact.map(to_half),
        Kind::Float(4) => exact.map(|edge| f64::from(edge as f32)),
        _ => exact,
    }
}

/// The nearest number with 11 bits, which for an edge (0, or 0.02 to 1) is a normal one of 16 bits.
fn to_half(edge: f64) -> f64 {
    if edge == 0.0 {
        return 0.0;
    }
    let unit = 2_f64.powi(edge.log2().floor() as i32 - 10);
    (edge / unit).round_ties_even() * unit
}

/// The bin of a number in range: guessed, then moved to where the edges say.
fn bin(value: f64, edges: &[f64; COUNT + 1]) -> usize {
    let mut bin = ((value * COUNT as f64) as usize).min(COUNT - 1);
    while value < edges[bin] {
        bin -= 1;
    }
    while bin < COUNT - 1 && value >= edges[bin + 1] {
        bin += 1;
    }
    bin
}

/// `sum p ln(p/q)` in nats.
pub(super) fn kl(p: &Bins, q: &Bins) -> f64 {
    if p.total() == 0 || q.total() == 0 {
        return f64::NAN;
    }
    divergence(&p.shares(), &q.shares())
}

pub(super) fn kl_smoothed(p: &Bins, q: &Bins) -> f64 {
    let whole = |shares: [f64; COUNT]| {
        let sum: f64 = shares.iter().sum();
        shares.map(|share| share / sum)
    };
    divergence(&whole(p.shares_without_zero()), &whole(q.shares_without_zero()))
}

pub(super) fn js_distance(p: &Bins, q: &Bins) -> f64 {
    let (p, q) = (p.shares(), q.shares());
    let middle = std::array::from_fn(|i| f64::midpoint(p[i], q[i]));
    (f64::midpoint(divergence(&p, &middle), divergence(&q, &middle)) / std::f64::consts::LN_2).sqrt()
}

pub(super) fn population_stability(p: &Bins, q: &Bins) -> f64 {
    let (p, q) = (p.shares_without_zero(), q.shares_without_zero());
    p.iter().zip(&q).map(|(p, q)| (p - q) * (p / q).ln()).sum::<f64>() + 0.0
}

/// Never below 0, which rounding would else bring it, and never -0.
fn divergence(p: &[f64; COUNT], q: &[f64; COUNT]) -> f64 {
    let terms = p.iter().zip(q).filter(|(p, _)| **p > 0.0);
    terms.map(|(p, q)| p * (p / q).ln()).sum::<f64>().max(0.0) + 0.0
}
