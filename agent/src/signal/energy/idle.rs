//! What would a GPU take for a workload that has no request? Pure.
//!
//! In: stretches of time, the energy of each, and how long of each the workload was busy. Out: which part of the energy was
//! for its idle time. What a wholly idle stretch takes is measured, and is what idle time costs in a mixed one. A server
//! that is never idle for a whole stretch has the line through its mixed ones: power over the share of busy time, at share 0.
//! Before either is known, energy is divided by time.

/// What is learnt is a mean that forgets by `e` in so many seconds: a GPU left alone goes on to lower states for long.
const MEMORY_SECONDS: f64 = 60.0;
/// A line is drawn through so many seconds of stretches at least,
const FIT_SECONDS_MIN: f64 = 8.0;
/// whose shares of busy time differ by so much: their variance.
const FIT_VARIANCE_MIN: f64 = 0.005;

/// The idle power of one GPU, as far as it is one workload's.
#[derive(Debug, Default)]
pub struct Idle {
    watts: Option<f64>,
    fit: Fit,
}

/// A stretch of time and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub joules: f64,
    pub busy_seconds: f64,
    pub idle_seconds: f64,
}

impl Idle {
    /// Learns from a stretch in which nobody else used the GPU.
    pub fn learn(&mut self, taken: &Taken) {
        let length = taken.busy_seconds + taken.idle_seconds;
        if length <= 0.0 {
            return;
        }
        let watts = taken.joules / length;
        if taken.busy_seconds <= 0.0 {
            let weight = 1.0 - (-length / MEMORY_SECONDS).exp();
            self.watts = Some(self.watts.map_or(watts, |mean| mean + (watts - mean) * weight));
        }
        self.fit.add(taken.busy_seconds / length, watts, length);
    }

    /// The part of the energy that was for idle time.
    #[must_use]
    pub fn joules(&self, taken: &Taken) -> f64 {
        if taken.busy_seconds <= 0.0 {
            return taken.joules;
        }
        let watts = self.watts.or_else(|| self.fit.at_zero());
        let mean = || taken.joules / (taken.busy_seconds + taken.idle_seconds);
        (watts.unwrap_or_else(mean) * taken.idle_seconds).clamp(0.0, taken.joules.max(0.0))
    }
}

/// A line through points, the older ones of less weight. Sums of weights, of their products with x, y, x times x, and x times y.
#[derive(Debug, Default)]
struct Fit {
    seconds: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Fit {
    fn add(&mut self, x: f64, y: f64, seconds: f64) {
        let kept = (-seconds / MEMORY_SECONDS).exp();
        let sums = [&mut self.seconds, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy];
        for (sum, more) in sums.into_iter().zip([1.0, x, y, x * x, x * y]) {
            *sum = *sum * kept + more * seconds;
        }
    }

    /// Where the line crosses, between nothing and the mean.
    fn at_zero(&self) -> Option<f64> {
        let (x, y) = (self.x / self.seconds, self.y / self.seconds);
        let variance = self.xx / self.seconds - x * x;
        if self.seconds < FIT_SECONDS_MIN || variance < FIT_VARIANCE_MIN {
            return None;
        }
        let slope = (self.xy / self.seconds - x * y) / variance;
        Some((y - slope * x).clamp(0.0, y.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(joules: f64, busy_seconds: f64) -> Taken {
        Taken { joules, busy_seconds, idle_seconds: 1.0 - busy_seconds }
    }

    /// At 500 W busy and 100 W idle.
    fn at(busy: f64) -> Taken {
        taken(500.0 * busy + 100.0 * (1.0 - busy), busy)
    }

    fn check(learnt: &[Taken], asked: Taken, expected: f64) {
        let mut idle = Idle::default();
        learnt.iter().for_each(|taken| idle.learn(taken));
        let found = idle.joules(&asked);
        assert!((found - expected).abs() < 0.5, "{found} of {asked:?} after {learnt:?}");
    }

    #[test]
    fn idle_time_costs_what_wholly_idle_stretches_take() {
        check(&[at(0.0), at(1.0)], at(0.25), 75.0);
        check(&[], at(0.25), 150.0);
        check(&[], at(0.0), 100.0);
        check(&[at(0.0)], at(1.0), 0.0);
        check(&[at(0.0)], taken(50.0, 0.25), 50.0);
        // A mean: of a minute at 100 W, and another one at 60.
        let minutes: Vec<Taken> =
            [100.0, 60.0].iter().flat_map(|watts| vec![taken(*watts, 0.0); 60]).collect();
        check(&minutes, at(0.5), 50.0 - 20.0 * (1.0 - (-1.0_f64).exp()));
    }

    #[test]
    fn a_server_that_is_never_wholly_idle_has_the_line_through_its_stretches() {
        let mixed: Vec<Taken> = (0..20).map(|each| at(0.3 + 0.02 * f64::from(each))).collect();
        check(&mixed, at(0.25), 75.0);
        check(&mixed[..5], at(0.25), 150.0);
        check(&[at(0.5); 20], at(0.5), 150.0);
        // Less busy and more power: no line of a GPU.
        let odd: Vec<Taken> =
            (0..20).map(|each| taken(400.0 - 10.0 * f64::from(each), 0.05 * f64::from(each))).collect();
        let mut idle = Idle::default();
        odd.iter()
            .for_each(|taken| idle.learn(&Taken { busy_seconds: taken.busy_seconds.max(0.001), ..*taken }));
        assert!(idle.joules(&taken(300.0, 0.5)) <= 300.0 * 0.5 + 10.0);
    }
}
