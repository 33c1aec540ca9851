//! A model's predictions, replaced once a second as a scoring job would: so many right, so sure.
//!
//! In: shares. Out: `baseline.npy` once, `truth.npy` and `recent.npy` again and again, until told otherwise.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

const EVERY: Duration = Duration::from_secs(1);
const COUNT: usize = 1000;

/// How the model is.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    pub right: f64,
    pub confidence: f64,
}

/// The job; it ends with its last value.
pub struct Feeder {
    shares: Arc<Mutex<Shares>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Writes a baseline as the model is now, and begins.
    ///
    /// # Errors
    ///
    /// Where nothing can be written.
    pub fn start(folder: &Path, shares: Shares) -> Result<Self> {
        write(folder, "baseline.npy", &baseline(shares.confidence))?;
        let (now, over) = (Arc::new(Mutex::new(shares)), Arc::new(AtomicBool::new(false)));
        let job = Job { folder: folder.to_owned(), shares: Arc::clone(&now), over: Arc::clone(&over) };
        let thread = Some(std::thread::spawn(move || job.work()));
        Ok(Self { shares: now, over, thread })
    }

    pub fn set(&self, shares: Shares) {
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _worked = thread.join();
        }
    }
}

struct Job {
    folder: PathBuf,
    shares: Arc<Mutex<Shares>>,
    over: Arc<AtomicBool>,
}

impl Job {
    fn work(&self) {
        let mut round = 0;
        while !self.over.load(Ordering::Relaxed) {
            let shares = *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
            // No two files after each other are the same.
            let count = COUNT + round % 2;
            let right = (count as f64 * shares.right).round() as usize;
            // The truth first: the recent file is what is looked at.
            let written = write(&self.folder, "truth.npy", &labels(count, right))
                .and_then(|()| write(&self.folder, "recent.npy", &floats(count, shares.confidence)));
            if let Err(error) = written {
                eprintln!("stack: predictions: {error:#}");
            }
            round += 1;
            std::thread::sleep(EVERY);
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("write {}", path.display()))
}

/// Mostly as sure, and now and then as sure as can be: so that no divergence from it is infinite.
fn baseline(value: f64) -> Vec<u8> {
    let bins = (0..100).map(|percent| f64::from(percent) / 100.0 + 0.005);
    npy("<f8", COUNT, bins.chain(std::iter::repeat_n(value, COUNT - 100)).map(f64::to_le_bytes))
}

/// Probabilities that are all the same, beyond a half: each predicts a 1.
fn floats(count: usize, value: f64) -> Vec<u8> {
    npy("<f8", count, std::iter::repeat_n(value.to_le_bytes(), count))
}

/// So many 1, the rest 0.
fn labels(count: usize, ones: usize) -> Vec<u8> {
    npy("<i4", count, (0..count).map(|place| i32::from(place < ones).to_le_bytes()))
}

/// One dimension, version 1.0 of the format.
fn npy<const BYTES: usize>(kind: &str, count: usize, values: impl Iterator<Item = [u8; BYTES]>) -> Vec<u8> {
    let mut head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}");
    // Magic, version and length are ten bytes, and the values begin at a multiple of 64.
    while (head.len() + 11) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(head.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(head.into_bytes());
    values.for_each(|value| bytes.extend(value));
    bytes
}
