//! A thread that looks at things again and again and leaves what it found where the pipeline takes it: nothing waits for it.
//!
//! In: entries, each with its way to look and its pace. Out: the newest standing of each, to be had at any time. It ends
//! soon after the watch is dropped.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Pace at which entries are seen to be due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is known of an entry.
pub trait Standing: Clone + Send + 'static {
    /// Whose it is, for the log.
    fn whose(&self) -> String;

    /// Why the newest look brought nothing; `None` where all is well.
    fn failure(&self) -> Option<&str>;
}

/// One thing to look at.
pub struct Entry<S> {
    /// What is known before the first look.
    pub standing: S,
    pub interval: Duration,
    pub look: Box<dyn FnMut(&mut S) + Send>,
}

/// The thread, as the pipeline has it.
#[derive(Debug)]
pub struct Watch<S> {
    desk: Arc<Mutex<Vec<S>>>,
}

impl<S> Default for Watch<S> {
    fn default() -> Self {
        Self { desk: Arc::default() }
    }
}

impl<S: Standing> Watch<S> {
    /// Starts it, where there is something to look at: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self, name: &str, entries: Vec<Entry<S>>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        *lock(&self.desk) = entries.iter().map(|entry| entry.standing.clone()).collect();
        let desk = Arc::downgrade(&self.desk);
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || run(entries, &desk)).with_context(|| format!("start the thread `{name}`"))?;
        Ok(())
    }

    /// What is known of each entry.
    #[must_use]
    pub fn newest(&self) -> Vec<S> {
        lock(&self.desk).clone()
    }
}

fn run<S: Standing>(mut entries: Vec<Entry<S>>, desk: &Weak<Mutex<Vec<S>>>) {
    let mut due = vec![Instant::now(); entries.len()];
    loop {
        for (index, entry) in entries.iter_mut().enumerate() {
            if Instant::now() < due[index] {
                continue;
            }
            let failed = entry.standing.failure().is_some();
            (entry.look)(&mut entry.standing);
            due[index] = Instant::now() + entry.interval;
            tell(failed, &entry.standing);
            let Some(desk) = desk.upgrade() else { return };
            lock(&desk)[index] = entry.standing.clone();
        }
        if desk.strong_count() == 0 {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Says once what is wrong, and once that it is over.
fn tell<S: Standing>(failed: bool, standing: &S) {
    match standing.failure() {
        Some(failure) if !failed => tracing::warn!(of = standing.whose(), "{failure}"),
        None if failed => tracing::info!(of = standing.whose(), "it is read again"),
        _ => {}
    }
}

fn lock<S>(desk: &Mutex<Vec<S>>) -> std::sync::MutexGuard<'_, Vec<S>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Count(u64);

    impl Standing for Count {
        fn whose(&self) -> String {
            "count".to_owned()
        }

        fn failure(&self) -> Option<&str> {
            None
        }
    }

    #[test]
    fn entries_are_looked_at_by_their_own_pace_until_the_watch_goes() {
        let watch = Watch::default();
        let looks = Arc::new(());
        let entry = |interval| {
            let alive = looks.clone();
            let look = move |count: &mut Count| {
                let _alive = &alive;
                count.0 += 1;
            };
            Entry { standing: Count(0), interval, look: Box::new(look) }
        };
        watch.start("test", vec![entry(Duration::ZERO), entry(Duration::from_secs(3600))]).unwrap();
        let until = |met: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !met() {
                assert!(began.elapsed() < Duration::from_secs(30));
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(&|| watch.newest()[0].0 >= 3);
        assert_eq!(watch.newest()[1].0, 1);
        drop(watch);
        until(&|| Arc::strong_count(&looks) == 1);
    }
}
