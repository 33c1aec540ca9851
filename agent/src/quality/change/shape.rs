//! How values depend on the size of their request, and how far they scatter beside.
//!
//! In: the first values of a stream, with their sizes. Out: a [`Shape`]: medians at sizes, between which it is interpolated,
//! and one scatter. Values are taken by their logarithm: what makes a server slower makes it slower by a share.

use serde::{Deserialize, Serialize};

/// Sizes that are told apart: half an octave each, from 64 on.
pub const SIZES: usize = 32;
const SIZE_LEAST_LN: f64 = 4.158_883_083_359_672;
const SIZE_STEP_LN: f64 = std::f64::consts::LN_2 / 2.0;
/// Buckets of values: 4 % each, from 1e-6 to 1e6.
const BUCKETS: usize = 691;
const VALUE_LEAST_LN: f64 = -13.815_510_557_964_274;
const BUCKET_LN: f64 = 0.04;
/// Values of a size below which it has no median yet.
pub const OF_SIZE_MIN: u64 = 30;
/// Standard deviations of a normal distribution between its quartiles.
const QUARTILES_APART: f64 = 1.348_979_500_392_163_6;
/// Values that are all the same scatter by rounding: by 1 %.
const SCATTER_LEAST: f64 = 0.01;
/// More than from the smallest number to the largest there is nothing.
const SCATTER_MAX: f64 = 50.0;
/// Likewise of the logarithm of a value or a size.
const LN_MAX: f64 = 750.0;

/// Counts of values by size.
#[derive(Clone, Debug)]
pub struct Sketch {
    /// Made when a size is first seen: 1.4 KB each.
    sizes: [Option<Box<Counts>>; SIZES],
    total: u64,
}

#[derive(Clone, Debug)]
struct Counts {
    buckets: [u16; BUCKETS],
    count: u64,
    size_ln_sum: f64,
}

/// What is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    nodes: Vec<Node>,
    /// Standard deviation of the logarithms beside their size, by quartiles.
    scatter: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    size_ln: f64,
    median_ln: f64,
}

/// The size's place, 0 to [`SIZES`] - 1.
#[must_use]
pub fn size_index(size: u64) -> usize {
    let ln = (size.max(1) as f64).ln();
    (((ln - SIZE_LEAST_LN) / SIZE_STEP_LN).max(0.0) as usize).min(SIZES - 1)
}

impl Default for Sketch {
    fn default() -> Self {
        Self { sizes: std::array::from_fn(|_| None), total: 0 }
    }
}

impl Sketch {
    pub fn add(&mut self, size: u64, value_ln: f64) {
        let fresh = || Box::new(Counts { buckets: [0; BUCKETS], count: 0, size_ln_sum: 0.0 });
        let counts = self.sizes[size_index(size)].get_or_insert_with(fresh);
        let bucket = ((value_ln - VALUE_LEAST_LN) / BUCKET_LN).clamp(0.0, (BUCKETS - 1) as f64) as usize;
        counts.buckets[bucket] = counts.buckets[bucket].saturating_add(1);
        counts.count += 1;
        counts.size_ln_sum += (size.max(1) as f64).ln();
        self.total += 1;
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// `None` where no size has enough.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        let enough: Vec<&Counts> =
            self.sizes.iter().flatten().map(AsRef::as_ref).filter(|of| of.count >= OF_SIZE_MIN).collect();
        let nodes: Vec<Node> = enough.iter().map(|of| of.node()).collect();
        let weight: f64 = enough.iter().map(|of| of.count as f64).sum();
        let apart = |of: &&Counts| (of.quantile(0.75) - of.quantile(0.25)) * of.count as f64;
        let scatter = enough.iter().map(apart).sum::<f64>() / weight / QUARTILES_APART;
        (!nodes.is_empty()).then(|| Shape { nodes, scatter: scatter.max(SCATTER_LEAST) })
    }
}

impl Counts {
    fn node(&self) -> Node {
        Node { size_ln: self.size_ln_sum / self.count as f64, median_ln: self.quantile(0.5) }
    }

    /// Within a bucket the values are taken to lie evenly.
    fn quantile(&self, share: f64) -> f64 {
        let counted: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let mut left = share * counted as f64;
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = f64::from(*count);
            if count > 0.0 && left <= count {
                return VALUE_LEAST_LN + (bucket as f64 + left / count) * BUCKET_LN;
            }
            left -= count;
        }
        VALUE_LEAST_LN + BUCKETS as f64 * BUCKET_LN
    }
}

impl Shape {
    /// How far a value is from what is usual for its size, in scatters.
    #[must_use]
    pub fn deviation(&self, size: u64, value_ln: f64) -> f64 {
        (value_ln - self.median_ln((size.max(1) as f64).ln())) / self.scatter
    }

    /// Of the values' logarithms.
    #[must_use]
    pub fn scatter(&self) -> f64 {
        self.scatter
    }

    /// Beyond the first and the last size that was seen often it goes on as they say.
    fn median_ln(&self, size_ln: f64) -> f64 {
        let after = self.nodes.partition_point(|node| node.size_ln <= size_ln);
        let (Some(left), Some(right)) =
            (after.checked_sub(1).map(|at| self.nodes[at]), self.nodes.get(after))
        else {
            let nearest = if after == 0 { self.nodes.first() } else { self.nodes.last() };
            return nearest.map_or(0.0, |node| node.median_ln);
        };
        let part = (size_ln - left.size_ln) / (right.size_ln - left.size_ln);
        left.median_ln + part * (right.median_ln - left.median_ln)
    }

    /// What comes from a file is what it could be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let finite =
            self.nodes.iter().all(|node| node.size_ln.abs() <= LN_MAX && node.median_ln.abs() <= LN_MAX);
        let in_order = self.nodes.windows(2).all(|pair| pair[0].size_ln < pair[1].size_ln);
        let count = (1..=SIZES).contains(&self.nodes.len());
        finite && in_order && count && (SCATTER_LEAST..=SCATTER_MAX).contains(&self.scatter)
    }
}
