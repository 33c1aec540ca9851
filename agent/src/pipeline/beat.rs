//! The pipeline's pace: one timer of the kernel for everything that is done again and again.
//!
//! Not the runtime's timers: each round of one of those takes two more system calls and wakes the thread twice,
//! which at this pace was half of what an idle agent cost.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

/// Comes at a steady pace; one that is missed is not made up.
#[derive(Debug)]
pub(super) struct Beat {
    // The runtime's type for pipes, of which only what any descriptor can do is used: it asks no unsafe promise.
    timer: Receiver,
}

impl Beat {
    /// The first comes a period from now.
    ///
    /// # Errors
    /// Not inside a runtime, or the kernel refuses.
    pub(super) fn every(period: Duration) -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("make a timer")?;
        let pace = Timespec::try_from(period).context("pace of the timer")?;
        let pace = Itimerspec { it_interval: pace, it_value: pace };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &pace).context("set a timer")?;
        Ok(Self { timer: Receiver::from_owned_fd_unchecked(timer).context("wait for a timer")? })
    }

    /// Waits for the next. Nothing is lost when the future is dropped before it is ready.
    pub(super) async fn next(&mut self) {
        // How many were missed since is of no interest; an error is one of a runtime that ends.
        while self.timer.readable().await.is_ok() {
            match self.timer.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// Whether a longer period is over, counted from when it was last said so.
#[derive(Debug)]
pub(super) struct Due {
    period: Duration,
    since: Instant,
}

impl Due {
    pub(super) fn every(period: Duration) -> Self {
        Self { period, since: Instant::now() }
    }

    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let over = now.saturating_duration_since(self.since) >= self.period;
        if over {
            self.since = now;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_come_no_faster_than_asked() {
        const PERIOD: Duration = Duration::from_millis(5);
        let mut beat = Beat::every(PERIOD).unwrap();
        let begun = Instant::now();
        for _ in 0..4 {
            beat.next().await;
        }
        assert!(begun.elapsed() >= 4 * PERIOD, "{:?}", begun.elapsed());
        // Late by three: one comes at once, for all of them.
        std::thread::sleep(3 * PERIOD);
        let late = Instant::now();
        beat.next().await;
        beat.next().await;
        beat.next().await;
        assert!(late.elapsed() >= PERIOD, "{:?}", late.elapsed());
    }

    #[test]
    fn a_period_is_over_once() {
        let start = Instant::now();
        let mut due = Due { period: Duration::from_secs(1), since: start };
        let after = |millis| start + Duration::from_millis(millis);
        let said = [999, 1000, 1001, 1999, 2400, 3399, 3400].map(|millis| due.is_over(after(millis)));
        assert_eq!(said, [false, true, false, false, true, false, true]);
    }
}
