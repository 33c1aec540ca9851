//! Numbers that look like chance and are the same for the same seed.

/// Uniform ones by fastrand, normal ones by Box and Muller.
#[derive(Clone, Debug)]
pub struct Chance(fastrand::Rng);

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Mean 0, standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.0.f64(), self.0.f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}
