//! How likely is it that a score fell this far by chance alone?
//!
//! In: two measured scores, and of how many earlier ones the better was picked. Out: a one-sided p-value,
//! `None` where the scores do not tell how noisy they are. Scores of the same questions hang together, so
//! their true noise is smaller than what is assumed here (independent answers): errors are on the quiet side.

/// Below this many questions the normal approximation is not to be trusted in the tails.
pub const SAMPLES_MIN: u64 = 30;

/// What is known of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// 0 to 1.
    pub accuracy: f64,
    pub standard_error: Option<f64>,
    pub samples: Option<u64>,
}

/// One-sided: how likely a `later` score at least this much lower is, were the true accuracy the same.
#[must_use]
pub fn p_value_of_fall(earlier: Measured, later: Measured) -> Option<f64> {
    match (earlier.samples, later.samples) {
        (Some(n), Some(m)) if n.min(m) >= SAMPLES_MIN => Some(two_proportions(earlier, n, later, m)),
        (Some(_), Some(_)) => None,
        _ => by_standard_errors(earlier, later),
    }
}

/// Corrects for having picked the best of `count`: among many runs the best is high by luck. Bonferroni's
/// bound, which holds however the runs hang together.
#[must_use]
pub fn corrected(p_value: f64, count: usize) -> f64 {
    (p_value * count as f64).min(1.0)
}

/// The pooled two-proportion z test.
fn two_proportions(earlier: Measured, n: u64, later: Measured, m: u64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let pooled = (earlier.accuracy * n + later.accuracy * m) / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    // All right, or all wrong, in both: nothing fell.
    if error > 0.0 { normal_tail((earlier.accuracy - later.accuracy) / error) } else { 1.0 }
}

fn by_standard_errors(earlier: Measured, later: Measured) -> Option<f64> {
    // By hand: `hypot` is of glibc 2.35, and hosts with 2.34 run this. Standard errors are far from where squares overflow.
    let (before, after) = (earlier.standard_error?, later.standard_error?);
    let error = (before * before + after * after).sqrt();
    // Errors of 0 come of all or no answers right, and say nothing of the noise.
    (error > 0.0).then(|| normal_tail((earlier.accuracy - later.accuracy) / error))
}

/// Where the series hands over to the continued fraction; each is quick and exact on its side.
const SERIES_Z_MAX: f64 = 3.0;

/// Terms that are more than enough for 1e-15 on either side of the seam.
const TERMS: u32 = 120;

/// The standard normal distribution above `z`; relative error below 1e-11.
#[must_use]
pub fn normal_tail(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z < 0.0 {
        return 1.0 - normal_tail(-z);
    }
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < SERIES_Z_MAX { 0.5 - density * series(z) } else { density / fraction(z) }
}

/// `z + z^3/3 + z^5/(3*5) + ...`
fn series(z: f64) -> f64 {
    let mut term = z;
    let mut sum = z;
    for index in 1..TERMS {
        term *= z * z / f64::from(2 * index + 1);
        sum += term;
    }
    sum
}

/// `z + 1/(z + 2/(z + 3/(z + ...)))`, from the far end.
fn fraction(z: f64) -> f64 {
    (1..TERMS).rev().fold(z, |below, index| z + f64::from(index) / below)
}
