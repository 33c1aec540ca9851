//! How probable is it that one sample's distribution function is as far from the true one? Kolmogorov's law at a size.
//!
//! In: the size and the distance. Out: the probability of that distance or a larger one. As in Simard and L'Ecuyer
//! (Computing the two-sided Kolmogorov-Smirnov distribution, 2011): small probabilities are twice the one-sided one,
//! which is a sum of positive terms; large ones are 1 less the law's, by Marsaglia, Tsang and Wang's matrix where the
//! sample is small and by Pelz and Good's series where it is not.

use std::f64::consts::PI;

/// Samples up to this size take the matrix, which is exact.
const MATRIX_SIZE_MAX: u64 = 140;
/// `size * distance^2`, from which on twice the one-sided probability is the two-sided one to all places.
const TAIL_FROM_SMALL: f64 = 4.0;
const TAIL_FROM: f64 = 2.2;
/// Terms of the series beyond the middle one: the next would be below 1e-30.
const SERIES_TERMS: i32 = 20;
/// `size * distance^2` beyond which the probability is below the smallest number.
const NOTHING_FROM: f64 = 370.0;

pub(super) fn survival(size: u64, distance: f64) -> f64 {
    let n = size as f64;
    let t = n * distance;
    if size == 0 || distance >= 1.0 {
        return if size == 0 { f64::NAN } else { 0.0 };
    }
    if t <= 0.5 {
        return 1.0;
    }
    let spread = t * distance;
    if spread >= NOTHING_FROM {
        return 0.0;
    }
    let small = size <= MATRIX_SIZE_MAX;
    if distance >= 0.5 || spread >= if small { TAIL_FROM_SMALL } else { TAIL_FROM } {
        return (2.0 * one_sided(size, distance)).min(1.0);
    }
    1.0 - if small { matrix(size, distance) } else { series(n, distance) }
}

/// Birnbaum and Tingey's sum for the one-sided distance. Each term is a binomial probability.
fn one_sided(size: u64, distance: f64) -> f64 {
    let n = size as f64;
    let last = (n * (1.0 - distance)).floor() as u64;
    let terms = (0..=last).map(|j| {
        let p = distance + j as f64 / n;
        if p >= 1.0 { 0.0 } else { binomial(j as f64, n, p) / p }
    });
    (distance * terms.sum::<f64>()).min(1.0)
}

/// The probability of `k` in `n` at `p`, by Loader's saddle point: no difference of large logarithms.
fn binomial(k: f64, n: f64, p: f64) -> f64 {
    let q = 1.0 - p;
    if k == 0.0 {
        return (n * (-p).ln_1p()).exp();
    }
    if k == n {
        return p.powf(n);
    }
    let exponent = stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(k, n * p)
        - deviance(n - k, n * q);
    exponent.exp() * (n / (2.0 * PI * k * (n - k))).sqrt()
}

/// `ln n!` less Stirling's formula.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        let factorial: f64 = (1..=n as u64).map(|i| i as f64).product();
        return factorial.ln() - ((n + 0.5) * n.ln() - n + (2.0 * PI).ln() / 2.0);
    }
    let square = n * n;
    (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square) / square)
        / n
}

/// `x ln(x / mean) + mean - x`, exact also where both are nearly the same.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    if difference.abs() >= 0.1 * (x + mean) {
        return x * (x / mean).ln() - difference;
    }
    let v = difference / (x + mean);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// Marsaglia, Tsang and Wang: the law is an entry of a matrix's `size`-th power.
fn matrix(size: u64, distance: f64) -> f64 {
    let n = size as f64;
    let k = (n * distance).floor() as usize + 1;
    let h = k as f64 - n * distance;
    let m = 2 * k - 1;
    let mut base = Square::new(m);
    for i in 0..m {
        for j in 0..m.min(i + 2) {
            base.set(i, j, 1.0);
        }
    }
    for i in 0..m {
        base.set(i, 0, base.at(i, 0) - h.powi(i as i32 + 1));
        base.set(m - 1, i, base.at(m - 1, i) - h.powi((m - i) as i32));
    }
    let corner = if 2.0 * h > 1.0 { (2.0 * h - 1.0).powi(m as i32) } else { 0.0 };
    base.set(m - 1, 0, base.at(m - 1, 0) + corner);
    for i in 0..m {
        for j in 0..m.min(i + 2) {
            let factorial: f64 = (1..=(i + 1).saturating_sub(j)).map(|g| g as f64).product();
            base.set(i, j, base.at(i, j) / factorial);
        }
    }
    let power = base.power(size);
    // Times n! / n^n, a factor at a time: at sizes of up to 140 nothing leaves the range.
    (1..=size).fold(power.at(k - 1, k - 1), |value, i| value * i as f64 / n)
}

struct Square {
    width: usize,
    cells: Vec<f64>,
}

impl Square {
    fn new(width: usize) -> Self {
        Self { width, cells: vec![0.0; width * width] }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.width + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.cells[row * self.width + column] = value;
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = Self::new(self.width);
        for row in 0..self.width {
            for inner in 0..self.width {
                let factor = self.at(row, inner);
                for column in 0..self.width {
                    product.cells[row * self.width + column] += factor * other.at(inner, column);
                }
            }
        }
        product
    }

    fn power(self, exponent: u64) -> Self {
        let mut result = Self::new(self.width);
        for i in 0..self.width {
            result.set(i, i, 1.0);
        }
        let (mut square, mut left) = (self, exponent);
        while left > 0 {
            if left & 1 == 1 {
                result = result.times(&square);
            }
            square = square.times(&square);
            left >>= 1;
        }
        result
    }
}

/// Pelz and Good: Kolmogorov's limit and three terms in the root of the size.
fn series(n: f64, distance: f64) -> f64 {
    let z = n.sqrt() * distance;
    let (z2, z4, z6, z8) = (z.powi(2), z.powi(4), z.powi(6), z.powi(8));
    let (p2, p4, p6) = (PI.powi(2), PI.powi(4), PI.powi(6));
    let (mut k0, mut k1, mut k2, mut k3) = (0.0, 0.0, 0.0, 0.0);
    for k in 0..SERIES_TERMS {
        // The sums run over all k; halves come in pairs of the same square.
        let half2 = (f64::from(k) + 0.5).powi(2);
        let e = (-p2 * half2 / (2.0 * z2)).exp() * 2.0;
        k0 += e / 2.0;
        k1 += (p2 * half2 - z2) * e;
        k2 += (6.0 * z6
            + 2.0 * z4
            + p2 * (2.0 * z4 - 5.0 * z2) * half2
            + p4 * (1.0 - 2.0 * z2) * half2.powi(2))
            * e;
        k3 += (p6 * half2.powi(3) * (5.0 - 30.0 * z2)
            + p4 * half2.powi(2) * (-60.0 * z2 + 212.0 * z4)
            + p2 * half2 * (135.0 * z4 - 96.0 * z6)
            - (30.0 * z6 + 90.0 * z8))
            * e;
    }
    let (mut k2_whole, mut k3_whole) = (0.0, 0.0);
    for k in 1..SERIES_TERMS {
        let whole2 = f64::from(k).powi(2);
        let e = (-p2 * whole2 / (2.0 * z2)).exp() * 2.0;
        k2_whole += p2 * whole2 * e;
        k3_whole += (3.0 * p2 * whole2 * z2 - p4 * whole2.powi(2)) * e;
    }
    let root = (PI / 2.0).sqrt();
    let k0 = k0 * (2.0 * PI).sqrt() / z;
    let k1 = k1 * root / (6.0 * z4);
    let k2 = k2 * root / (72.0 * z.powi(7)) - k2_whole * root / (36.0 * z.powi(3));
    let k3 = k3 * root / (6480.0 * z.powi(10)) + k3_whole * root / (216.0 * z6);
    (k0 + k1 / n.sqrt() + k2 / n + k3 / n.powf(1.5)).clamp(0.0, 1.0)
}
