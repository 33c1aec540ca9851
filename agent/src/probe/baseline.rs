//! One of the bench's own programs, attached by itself: the empty one, or a step that work is made of.
//!
//! In: the running kernel, the program's name. Out: it is attached while [`Baseline`] lives. For the bench; the
//! agent never loads these.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::BtfTracePoint;

use super::plan::Family;
use super::{Fitted, ring};

/// The program that does nothing: the zero of every figure of what programs cost.
pub const EMPTY: &str = "empty";
const HOOK: &str = "sock_send_length";

/// The program is attached while this lives.
pub struct Baseline {
    ring: RingBuf<MapData>,
    _ebpf: Ebpf,
}

impl Baseline {
    /// Attaches it where every write to a socket passes.
    ///
    /// # Errors
    /// The kernel has no BTF or no such hook, refuses the program, or this process may not.
    pub fn attach(program: &str) -> Result<Self> {
        let fitted = Fitted::new()?;
        let (mut ebpf, kernel) = fitted.object(Family::Tracepoint)?;
        let ring = ring::take(&mut ebpf, "EVENTS")?;
        let found: &mut BtfTracePoint =
            ebpf.program_mut(program).context("program is not in the object")?.try_into()?;
        found.load(HOOK, kernel.btf).with_context(|| format!("load the program {program}"))?;
        found.attach().with_context(|| format!("attach the program {program}"))?;
        Ok(Self { ring, _ebpf: ebpf })
    }

    /// Takes what the program left in its ring: a full one would be cheaper to hand bytes to.
    pub fn drain(&mut self) {
        while self.ring.next().is_some() {}
    }
}
