//! The threads that ask: one reads one GPU at its pace, one waits for faults.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::desk::{Desk, Seat};
use super::{Report, Teller, Times, spawn};
use crate::gpu::News;
use crate::gpu::source::{Device, Events, Failure};

/// What every such thread has.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) session: u64,
    pub(super) times: Times,
    pub(super) teller: Teller,
    pub(super) reports: Sender<Report>,
}

/// Reads `device` until its desk is stopped or the session is over.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(common: Common, device: Box<dyn Device>) -> io::Result<Arc<Desk>> {
    let desk = Arc::new(Desk::default());
    let seat = Seat(desk.clone());
    let name = format!("gpu-{}", device.identity().index);
    spawn(&name, move || read(&common, &seat, device))?;
    Ok(desk)
}

fn read(common: &Common, seat: &Seat, mut device: Box<dyn Device>) {
    let Common { session, times, teller, reports } = common;
    let uuid = device.identity().uuid.clone();
    let mut pace = Pace { begun: Instant::now(), every: times.interval };
    loop {
        if !seat.0.begin() {
            break;
        }
        let answer = device.read();
        let (failing, lost) = (answer.is_err(), matches!(answer, Err(Failure::Lost(_))));
        let mut over = false;
        let tell = || match answer {
            Ok(reading) => drop(teller.tell(News::Read { uuid: uuid.clone(), reading: Box::new(reading) })),
            Err(failure @ Failure::Session(_)) => {
                over = true;
                // Nobody over it: it ends anyway.
                let _heard = reports.send(Report::SessionOver(*session, failure));
            }
            Err(failure) => drop(teller.tell(News::Failed { uuid: uuid.clone(), failure })),
        };
        let goes_on = seat.0.end(failing, tell);
        let next = if lost { Instant::now() + times.again } else { pace.next(Instant::now()) };
        if !goes_on || over || !seat.0.sleep_until(next) {
            break;
        }
    }
    // The library is let go before the desk says that the thread has ended.
    drop(device);
}

/// Moments at a steady distance from the first; what a long call has missed is left out.
struct Pace {
    /// The last of them that was given.
    begun: Instant,
    every: Duration,
}

impl Pace {
    fn next(&mut self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.begun).as_nanos() / self.every.as_nanos().max(1) + 1;
        self.begun += self.every.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
        self.begun
    }
}

/// Waits for faults until its desk is stopped or none will come any more.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start_faults(common: Common, events: Box<dyn Events>) -> io::Result<Arc<Desk>> {
    let desk = Arc::new(Desk::default());
    let seat = Seat(desk.clone());
    spawn("gpu-faults", move || wait(&common, &seat, events))?;
    Ok(desk)
}

fn wait(common: &Common, seat: &Seat, mut events: Box<dyn Events>) {
    let Common { session, times, teller, reports } = common;
    while !seat.0.is_stopped() {
        match events.next(times.fault_wait) {
            Ok(None) => {}
            Ok(Some(xid)) => drop(teller.tell(News::Fault(xid))),
            Err(failure) => {
                // Nobody over it: it ends anyway.
                let _heard = reports.send(Report::FaultsOver(*session, failure));
                break;
            }
        }
    }
    drop(events);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_does_not_drift_and_leaves_out_what_it_missed() {
        let begun = Instant::now();
        let ms = |ms: u64| begun + Duration::from_millis(ms);
        let mut pace = Pace { begun, every: Duration::from_millis(100) };
        assert_eq!(pace.next(ms(3)), ms(100));
        assert_eq!(pace.next(ms(104)), ms(200));
        assert_eq!(pace.next(ms(201)), ms(300));
        assert_eq!(pace.next(ms(951)), ms(1000));
    }
}
