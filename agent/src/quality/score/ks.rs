//! The two-sample test of Kolmogorov and Smirnov: are two samples of one distribution?
//!
//! In: two sorted samples. Out: the largest difference of their distribution functions, and how probable a difference
//! at least as large is. That is counted exactly for samples of up to 10,000, as SciPy does; for larger ones it is the
//! law of one sample of the size `nm / (n + m)`, rounded.

use serde::Serialize;

use super::one_sample;

/// The larger sample, up to which paths are counted: at most 10^8 steps.
const EXACT_MAX: usize = 10_000;

/// How a p-value was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Method {
    #[serde(rename = "exact")]
    Exact,
    #[serde(rename = "asymp")]
    Asymptotic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Test {
    pub statistic: f64,
    pub p_value: f64,
    pub method: Method,
}

/// `None` where either has no number.
pub(super) fn test(a: &[f64], b: &[f64]) -> Option<Test> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (n, m) = (a.len() as u64, b.len() as u64);
    let distance = distance(a, b);
    let statistic = distance as f64 / (n as f64 * m as f64);
    let (p_value, method) = if a.len().max(b.len()) <= EXACT_MAX {
        (exact(n, m, distance), Method::Exact)
    } else {
        let size = (n as f64 * m as f64 / (n + m) as f64).round_ties_even();
        (one_sample::survival(size as u64, statistic), Method::Asymptotic)
    };
    Some(Test { statistic, p_value: p_value.clamp(0.0, 1.0), method })
}

/// The largest difference of the distribution functions, times both sizes: a whole number, so nothing is rounded.
fn distance(a: &[f64], b: &[f64]) -> u64 {
    let (n, m) = (a.len() as u64, b.len() as u64);
    let (mut at_a, mut at_b, mut largest) = (0, 0, 0);
    while at_a < a.len() && at_b < b.len() {
        let next = a[at_a].min(b[at_b]);
        at_a += a[at_a..].iter().take_while(|value| **value == next).count();
        at_b += b[at_b..].iter().take_while(|value| **value == next).count();
        largest = largest.max((at_a as u64 * m).abs_diff(at_b as u64 * n));
    }
    largest
}

/// The share of the ways to lay two samples of sizes `n` and `m` into one order in which the difference reaches
/// `distance / (n m)`.
///
/// `reached[j]` is that share of the ways up to `i` of the one and `j` of the other. The last step came from `i - 1` in
/// `i` of `i + j` cases. All terms are positive, so small probabilities keep their places.
fn exact(n: u64, m: u64, distance: u64) -> f64 {
    let (n, m) = (n.max(m), n.min(m));
    let inside = |i: u64, j: u64| (i * m).abs_diff(j * n) < distance;
    let mut reached: Vec<f64> = (0..=m).map(|j| if inside(0, j) { 0.0 } else { 1.0 }).collect();
    let mut first = 0;
    for i in 1..=n {
        while first <= m && i * m > first * n && !inside(i, first) {
            first += 1;
        }
        let mut below = 1.0;
        let mut j = first;
        while j <= m && inside(i, j) {
            // Of a first row there is nothing below: its weight is 0.
            let value = (reached[j as usize] * i as f64 + below * j as f64) / (i + j) as f64;
            reached[j as usize] = value;
            below = value;
            j += 1;
        }
        if j == first {
            return 1.0;
        }
    }
    reached[m as usize]
}
