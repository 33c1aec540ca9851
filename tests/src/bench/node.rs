//! On what machine the figures were measured, and how busy it was.
//!
//! In: `/proc`. Out: a line that belongs beside every figure.

use std::fmt;
use std::fs;

use serde::Serialize;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Node {
    pub kernel: String,
    pub processor: String,
    pub processors: usize,
    /// Tasks that ran or waited for a processor in the minute before, on average.
    pub load_before: f64,
    /// Whether a hypervisor is below it.
    pub is_virtual: bool,
}

impl Node {
    /// This machine; what `/proc` does not tell is empty.
    #[must_use]
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = processor.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field("model name").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0),
            is_virtual: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, processors, load_before, is_virtual } = self;
        let kind = if *is_virtual { "virtual" } else { "physical" };
        write!(
            out,
            "measured on {processors} {kind} processors ({processor}), Linux {kernel}, load average {load_before:.1} \
             before"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_processors() {
        let node = Node::read();
        assert!(!node.kernel.is_empty() && node.processors > 0, "{node:?}");
    }
}
