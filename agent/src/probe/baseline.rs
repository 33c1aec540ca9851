//! The empty program, attached by itself: the zero of every figure of what programs cost.
//!
//! In: the running kernel. Out: it is attached while [`Baseline`] lives. For the bench; the agent never
//! loads it.

use anyhow::{Context as _, Result};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};

/// Its name, as the kernel has it.
pub const PROGRAM: &str = "empty";
const HOOK: &str = "sock_send_length";

/// The empty program is attached while this lives.
pub struct Baseline {
    _ebpf: Ebpf,
}

impl Baseline {
    /// Attaches it where every write to a socket passes.
    ///
    /// # Errors
    /// The kernel has no BTF or no such hook, or this process may not.
    pub fn attach() -> Result<Self> {
        let btf = Btf::from_sys_fs().context("read the kernel's types")?;
        let mut ebpf = EbpfLoader::new().load(super::OBJECT).context("create the kernel tables")?;
        let program: &mut BtfTracePoint =
            ebpf.program_mut(PROGRAM).context("program is not in the object")?.try_into()?;
        program.load(HOOK, &btf).context("load the empty program")?;
        program.attach().context("attach the empty program")?;
        Ok(Self { _ebpf: ebpf })
    }
}
