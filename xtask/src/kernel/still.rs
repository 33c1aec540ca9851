//! A machine that is up and says nothing any more: whose doing that is.
//!
//! In: how much was heard from it, and what the emulator's monitor says of its processors. Out: whether it has been
//! silent for too long, and whether all processors sleep. A kernel whose processors wait for an interrupt that never
//! comes, its clock's too, was forgotten by the emulator; one that hangs by itself has a processor that works, or says
//! so first, which takes it less than [`LIMIT`].

use std::time::{Duration, Instant};

/// A guest is heard every few seconds, and tells of a hung task after one to two minutes.
const LIMIT: Duration = Duration::from_secs(180);
/// To the monitor.
pub const QUESTION: &[u8] = b"info registers -a\n";
/// Interrupts are let in: a bit of RFLAGS.
const INTERRUPTS: u64 = 1 << 9;

/// Since when nothing was heard.
pub struct Silence {
    heard: u64,
    since: Instant,
}

impl Default for Silence {
    fn default() -> Self {
        Self { heard: 0, since: Instant::now() }
    }
}

impl Silence {
    /// `heard`: bytes so far.
    pub fn too_long(&mut self, heard: u64) -> bool {
        if heard != self.heard {
            *self = Self { heard, since: Instant::now() };
        }
        self.since.elapsed() > LIMIT
    }
}

/// What one did when it was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// As the monitor writes it.
    instruction: String,
    /// It waits for an interrupt, and would take it.
    asleep: bool,
}

/// From the monitor's answer, a processor: `RIP=ffffffff81c0c0fb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1`
pub fn processors(answer: &str) -> Vec<Processor> {
    answer.lines().filter_map(processor).collect()
}

fn processor(line: &str) -> Option<Processor> {
    let value =
        |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let flags = u64::from_str_radix(value("RFL")?, 16).ok()?;
    let asleep = value("HLT")? == "1" && flags & INTERRUPTS != 0;
    Some(Processor { instruction: value("RIP")?.to_owned(), asleep })
}

/// Whether all sleep.
pub fn asleep(processors: &[Processor]) -> bool {
    !processors.is_empty() && processors.iter().all(|processor| processor.asleep)
}

/// A sentence for people.
pub fn told(processors: &[Processor]) -> String {
    let each = processors.iter().map(|Processor { instruction, asleep }| {
        format!("{} at {instruction}", if *asleep { "asleep" } else { "at work" })
    });
    let each: Vec<String> = each.collect();
    let each = if each.is_empty() { "the emulator does not answer".to_owned() } else { each.join(", ") };
    format!("nothing was heard from it for {} s; its processors: {each}", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKS: &str = "RIP=ffffffff81c0c0fb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0";
    const SLEEPS: &str = "RIP=ffffffff81c0c0fb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1";
    const DEAF: &str = "RIP=ffffffff81c0c0fb RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1";

    #[test]
    fn only_where_all_sleep_it_is_the_emulator() {
        let check = |lines: &[&str], expected: bool| {
            let answer =
                format!("(qemu) info registers -a\r\n\nCPU#0\nRAX=0 RBX=1\n{}\n", lines.join("\nCPU#1\n"));
            let found = processors(&answer);
            assert_eq!(found.len(), lines.len());
            assert_eq!(asleep(&found), expected, "{answer}");
        };
        check(&[SLEEPS, SLEEPS], true);
        check(&[SLEEPS, WORKS], false);
        check(&[DEAF, SLEEPS], false);
        check(&[], false);
    }

    #[test]
    fn what_is_heard_ends_the_silence() {
        let long_ago = Instant::now() - LIMIT - Duration::from_secs(1);
        let mut silence = Silence { heard: 5, since: long_ago };
        assert!(silence.too_long(5));
        assert!(!silence.too_long(6));
        assert!(!silence.too_long(6));
    }
}
