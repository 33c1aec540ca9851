//! Asks the GPUs beside everything else: a thread for each, one for faults, one that opens the library and lists what
//! there is, and one over them that never calls the library, so that it always can say who has not come back.
//!
//! In: a [`GpuSource`]. Out: [`News`], and how many of them found no room. What hangs is told and waited for, never
//! joined: a GPU with [`HUNG_MAX`] threads that hang in sessions which are over gets no new one until one comes back.

mod desk;
mod library;
mod supervisor;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::supervisor::Supervisor;
use super::source::{Driver, Events, Failure, Found, GpuSource};
use super::{NEWS_MAX, News};

/// Threads of one GPU that hang in sessions which are over.
pub const HUNG_MAX: usize = 1;
/// How long the end of the watch waits for threads that are about to end: a process must not unload what they are in.
const END_WITHIN: Duration = Duration::from_millis(500);

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two readings of a GPU.
    pub interval: Duration,
    /// Longer than any answer takes.
    pub unresponsive_after: Duration,
    /// Between two attempts to find a library, and two looks at which GPUs there are; also between two questions to
    /// a GPU that is lost.
    pub again: Duration,
    /// How long the thread of faults waits for one.
    pub fault_wait: Duration,
    /// Between two looks at who has not come back.
    pub look: Duration,
}

impl Times {
    /// Of readings at this interval.
    #[must_use]
    pub fn of(interval: Duration) -> Self {
        Self {
            interval,
            unresponsive_after: (interval * 3).max(Duration::from_secs(5)),
            again: Duration::from_secs(10),
            fault_wait: Duration::from_millis(400),
            look: Duration::from_secs(1),
        }
    }
}

/// The threads, as the pipeline has them. They end soon after this is dropped; one that hangs, when it comes back.
#[derive(Debug)]
pub struct Watch {
    reports: Sender<Report>,
    over: Receiver<()>,
    lost: Arc<AtomicU64>,
}

impl Watch {
    /// Starts them: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(source: Arc<dyn GpuSource>, times: Times) -> Result<(Self, Receiver<News>)> {
        let (tell, news) = sync_channel(NEWS_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let teller = Teller { news: tell, lost: lost.clone() };
        let (reports, received) = channel();
        let (ending, over) = channel();
        let supervisor = Supervisor::start(source, times, teller, reports.clone(), received)?;
        let run = move || {
            supervisor.run();
            drop(ending);
        };
        spawn("gpus", run).context("start the watch over GPUs")?;
        Ok((Self { reports, over, lost }, news))
    }

    /// News that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Where nobody hears it, it is over already.
        let _heard = self.reports.send(Report::Stop);
        let late = self.over.recv_timeout(END_WITHIN * 2) == Err(RecvTimeoutError::Timeout);
        if late {
            tracing::debug!("the threads of the GPUs have not all ended");
        }
    }
}

/// What a thread tells the one over it. Those of a session that is over are left aside.
enum Report {
    Opened(Result<Driver, Failure>),
    Listed(u64, Result<Vec<Found>, Failure>),
    Faults(u64, Result<Box<dyn Events>, Failure>),
    /// No more faults will come.
    FaultsOver(u64, Failure),
    /// A GPU says that the library has to be opened again.
    SessionOver(u64, Failure),
    Stop,
}

/// Tells news without ever waiting.
#[derive(Clone)]
struct Teller {
    news: SyncSender<News>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    /// False where there is no room: it is counted, and lost.
    fn tell(&self, news: News) -> bool {
        let full = matches!(self.news.try_send(news), Err(TrySendError::Full(_)));
        if full {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        !full
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests;
