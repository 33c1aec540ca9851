//! How do we get at it? Loads the kernel programs, attaches them, and reads what they leave.
//!
//! In: the running kernel. Out: events in the order of their socket, counters, which hooks there are.
//! Alone imports aya. When the agent ends, however it ends, the kernel detaches everything: all hooks
//! and tables belong to file descriptors of the agent.

#![allow(unsafe_code, reason = "map values are plain old data, which only an unsafe impl can say")]

pub mod attach;
pub mod baseline;
pub mod btf;
pub mod offsets;
pub mod ring;
pub mod statistics;
pub mod tables;
pub mod usage;

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::Iter;
use aya::{Btf, Ebpf, EbpfLoader};

use self::attach::Hook;
use self::btf::KernelTypes;
use self::ring::Rings;
use self::tables::Tables;

/// Where a kernel says which types it has.
pub const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The kernel programs, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/inferscope-ebpf"));

/// Reads the lines that the programs log.
type KernelLog = aya_log::EbpfLogger<&'static dyn log::Log>;

/// The loaded programs and their rings and tables.
pub struct Probe {
    pub rings: Rings,
    pub tables: Tables,
    hooks: Vec<Hook>,
    /// Lines that the programs wrote for the log.
    log: Option<KernelLog>,
    ebpf: Ebpf,
}

impl Probe {
    /// Loads and attaches.
    ///
    /// # Errors
    /// The kernel has no BTF, refuses the tables, or takes none of the programs that measure requests.
    pub fn start() -> Result<Self> {
        let types = KernelTypes::read(Path::new(KERNEL_TYPES))
            .context("the kernel describes no types (CONFIG_DEBUG_INFO_BTF), which the programs need")?;
        let offsets = offsets::look_up(&types)?;
        let btf = Btf::from_sys_fs().context("read the kernel's types")?;
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&btf));
        for (global, offset) in &offsets {
            loader.override_global(global, offset, true);
        }
        let mut ebpf = loader
            .load(OBJECT)
            .context("create the kernel tables; this needs CAP_BPF and CAP_PERFMON (or root)")?;
        let hooks = attach::attach_all(&mut ebpf, &types, &btf);
        refuse_blindness(&hooks)?;
        let (rings, tables) = (Rings::new(&mut ebpf)?, Tables::new(&mut ebpf)?);
        // Without it the lines of the kernel programs are missing from the log, and nothing else.
        let log = KernelLog::init(&mut ebpf).ok();
        Ok(Self { rings, tables, hooks, log, ebpf })
    }

    /// Passes on what the programs wrote for the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Every program, its hook, and whether it is attached.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The sockets that watched processes hold, of those the programs have looked at.
    ///
    /// # Errors
    /// The kernel has no such iterator, or refuses the pass.
    pub fn open_sockets(&mut self) -> Result<HashSet<u64>> {
        let name = attach::OPEN_SOCKETS.program;
        let program: &mut Iter =
            self.ebpf.program_mut(name).context("program is not in the object")?.try_into()?;
        let link = program.attach().context("attach the iterator over files")?;
        let mut cookies = Vec::new();
        program.take_link(link)?.into_file()?.read_to_end(&mut cookies).context("list open sockets")?;
        Ok(cookies.as_chunks::<8>().0.iter().map(|cookie| u64::from_ne_bytes(*cookie)).collect())
    }

    /// What each attached program cost so far.
    #[must_use]
    pub fn statistics(&self) -> Vec<statistics::ProgramRuns> {
        self.ebpf.programs().filter_map(|(name, program)| statistics::read(name, program)).collect()
    }
}

fn refuse_blindness(hooks: &[Hook]) -> Result<()> {
    for hook in hooks.iter().filter(|hook| hook.plan.required) {
        if let Some(reason) = &hook.absent {
            let Hook { plan, .. } = hook;
            bail!(
                "cannot attach {} to {}, without which {}: {reason}; `inferscope doctor` says what this kernel \
                 lacks and what to do",
                plan.program,
                plan.hook,
                plan.without
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::attach::PLANS;
    use super::*;

    #[test]
    fn start_is_refused_without_a_required_hook_only() {
        for plan in PLANS {
            let absent = Some(format!("the kernel has no tracepoint {}", plan.hook));
            let refusal = refuse_blindness(&[Hook { plan, absent }]).map_err(|error| error.to_string());
            assert_eq!(refusal.is_err(), plan.required, "{}", plan.program);
            if let Err(text) = refusal {
                assert!(text.contains(plan.hook) && text.contains("`inferscope doctor` says"), "{text}");
            }
            assert!(refuse_blindness(&[Hook { plan, absent: None }]).is_ok(), "{}", plan.program);
        }
    }
}
