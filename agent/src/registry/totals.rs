//! Counters that are told their total instead of their growth.
//!
//! In: totals of a source that may begin anew (a program loaded again). Out: counters that only rise.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::FloatCounter;

/// One total that only rises: a smaller one is a source that began anew at 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rising {
    last: u64,
    sum: u64,
}

impl Rising {
    /// Takes the source's newest total.
    pub fn set(&mut self, total: u64) {
        self.sum = self.sum.saturating_add(growth(self.last, total));
        self.last = total;
    }

    /// What has grown.
    #[must_use]
    pub fn get(self) -> u64 {
        self.sum
    }
}

fn growth(before: u64, total: u64) -> u64 {
    total.checked_sub(before).unwrap_or(total)
}

/// The newest total of each series, by its labels.
#[derive(Debug)]
struct Last<L>(Mutex<HashMap<L, u64>>);

impl<L: Clone + Eq + Hash> Last<L> {
    /// Growth since the total before.
    fn growth(&self, labels: &L, total: u64) -> u64 {
        let mut last = lock(&self.0);
        growth(last.insert(labels.clone(), total).unwrap_or(0), total)
    }

    fn remove_where(&self, gone: impl Fn(&L) -> bool) -> Vec<L> {
        let mut last = lock(&self.0);
        last.extract_if(|labels, _| gone(labels)).map(|(labels, _)| labels).collect()
    }
}

impl<L> Default for Last<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Counters of things.
#[derive(Debug)]
pub struct Totals<L> {
    family: Family<L, Counter>,
    last: Last<L>,
}

/// Counters of seconds.
#[derive(Debug)]
pub struct SecondsTotals<L> {
    family: Family<L, FloatCounter>,
    last: Last<L>,
}

impl<L: Clone + Eq + Hash> Totals<L> {
    /// Removes the series of these labels.
    pub fn remove_where(&self, gone: impl Fn(&L) -> bool) {
        for labels in self.last.remove_where(gone) {
            self.family.remove(&labels);
        }
    }

    /// The total of one series, made where it is new.
    pub fn set(&self, labels: &L, total: u64) {
        self.family.get_or_create(labels).inc_by(self.last.growth(labels, total));
    }

    /// What every series says, in no order.
    pub fn all(&self) -> Vec<(L, u64)> {
        let labels: Vec<L> = lock(&self.last.0).keys().cloned().collect();
        labels.into_iter().map(|labels| (labels.clone(), self.family.get_or_create(&labels).get())).collect()
    }

    /// To register.
    pub fn family(&self) -> Family<L, Counter> {
        self.family.clone()
    }
}

impl<L: Clone + Eq + Hash> SecondsTotals<L> {
    /// Likewise.
    pub fn remove_where(&self, gone: impl Fn(&L) -> bool) {
        for labels in self.last.remove_where(gone) {
            self.family.remove(&labels);
        }
    }

    /// Likewise.
    pub fn set(&self, labels: &L, total: Duration) {
        let total = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let growth = self.last.growth(labels, total);
        self.family.get_or_create(labels).inc_by(growth as f64 / 1e9);
    }

    /// Likewise.
    pub fn family(&self) -> Family<L, FloatCounter> {
        self.family.clone()
    }
}

impl<L: Clone + Eq + Hash> Default for Totals<L> {
    fn default() -> Self {
        Self { family: Family::default(), last: Last::default() }
    }
}

impl<L: Clone + Eq + Hash> Default for SecondsTotals<L> {
    fn default() -> Self {
        Self { family: Family::default(), last: Last::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_begins_anew_does_not_take_back() {
        let totals: Totals<()> = Totals::default();
        let mut rising = Rising::default();
        for (total, expected) in [(0, 0), (5, 5), (5, 5), (9, 9), (2, 11), (3, 12)] {
            totals.set(&(), total);
            rising.set(total);
            assert_eq!(totals.all(), [((), expected)], "after total {total}");
            assert_eq!(rising.get(), expected, "after total {total}");
        }
    }

    #[test]
    fn what_is_removed_begins_anew() {
        let totals: Totals<Vec<(String, String)>> = Totals::default();
        let labels = |name: &str| vec![("name".to_owned(), name.to_owned())];
        totals.set(&labels("a"), 5);
        totals.set(&labels("b"), 7);
        totals.remove_where(|each| *each == labels("a"));
        totals.set(&labels("a"), 6);
        let of = |name| totals.family.get_or_create(&labels(name)).get();
        assert_eq!((of("a"), of("b")), (6, 7));
    }

    #[test]
    fn seconds_are_counted_whole() {
        let totals: SecondsTotals<()> = SecondsTotals::default();
        totals.set(&(), Duration::from_millis(1500));
        totals.set(&(), Duration::from_millis(2500));
        assert!((totals.family.get_or_create(&()).get() - 2.5).abs() < 1e-12);
    }
}
