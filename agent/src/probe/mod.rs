//! How do we get at it? Loads the kernel programs, attaches them, and reads what they leave.
//!
//! In: the running kernel. Out: events in the order of their socket, counters, which hooks there are.
//! Alone imports aya. When the agent ends, however it ends, the kernel detaches everything: all hooks
//! and tables belong to file descriptors of the agent.

#![allow(unsafe_code, reason = "map values are plain old data, which only an unsafe impl can say")]

pub mod attach;
pub mod baseline;
mod batch;
pub mod btf;
pub mod features;
pub mod offsets;
pub mod plan;
pub mod ring;
pub mod stalls;
pub mod statistics;
pub mod tables;
pub mod trial;

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::Iter;
use aya::{Btf, Ebpf, EbpfLoader};
use inferscope_common::socket::{SLOTS_INTERRUPTED, SLOTS_PLAIN};

use self::attach::{Kernel, Outcome};
use self::btf::KernelTypes;
use self::features::{Features, Preemption};
use self::plan::Family;
use self::ring::Rings;
use self::stalls::Stalls;
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
    pub stalls: Stalls,
    outcomes: Vec<Outcome>,
    /// Lines that the programs wrote for the log.
    log: Option<KernelLog>,
    ebpf: Ebpf,
}

/// What the programs are fitted to: the running kernel.
struct Fitted {
    types: KernelTypes,
    offsets: Vec<offsets::Offset>,
    features: Features,
    btf: Btf,
}

impl Fitted {
    fn new() -> Result<Self> {
        let types = KernelTypes::read(Path::new(KERNEL_TYPES))
            .context("the kernel describes no types (CONFIG_DEBUG_INFO_BTF), which the programs need")?;
        let features = Features::of(
            &types,
            features::lockdown(Path::new(features::LOCKDOWN)).as_deref(),
            Preemption::of_node(),
        );
        let offsets = [offsets::look_up(&types)?, offsets::look_up_scheduler(&types)?].concat();
        Ok(Self { offsets, features, types, btf: Btf::from_sys_fs().context("read the kernel's types")? })
    }

    /// Creates the tables, and the programs as this family needs them, none of them loaded yet.
    fn object(&self, family: Family) -> Result<(Ebpf, Kernel<'_>)> {
        let features = self.features.within(family);
        let globals = [self.offsets.clone(), features.globals()].concat();
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&self.btf));
        for (global, value) in &globals {
            loader.override_global(global, value, true);
        }
        if features.helpers {
            // What is known of a socket lies in the socket.
            loader.map_max_entries("SOCKETS", 1);
        }
        match (family, features.interrupted) {
            (Family::Function, _) => {}
            (_, true) => _ = loader.map_max_entries("SCRATCH", SLOTS_INTERRUPTED),
            (_, false) => _ = loader.map_max_entries("SCRATCH", SLOTS_PLAIN),
        }
        let ebpf = loader
            .load(OBJECT)
            .context("create the kernel tables; this needs CAP_BPF and CAP_PERFMON (or root)")?;
        Ok((ebpf, Kernel { types: &self.types, features, btf: &self.btf }))
    }
}

/// Attaches by the first of the families whose hooks at reads and writes the kernel takes; `None` where it
/// takes none.
fn attach(fitted: &Fitted, families: &[Family]) -> Result<(Option<Ebpf>, Vec<Outcome>)> {
    let mut refused = Vec::new();
    for &family in families {
        let (mut ebpf, kernel) = fitted.object(family)?;
        let mut calls = attach::attach_calls(&mut ebpf, &kernel, family);
        refused.append(&mut calls.refused);
        if calls.way.is_some() {
            let mut outcomes = vec![Outcome { refused, ..calls }];
            outcomes.extend(attach::attach_rest(&mut ebpf, &kernel, family));
            return Ok((Some(ebpf), outcomes));
        }
    }
    Ok((None, vec![Outcome { duty: &plan::CALLS, way: None, refused }]))
}

impl Probe {
    /// Loads and attaches, by the first of the families whose hooks at reads and writes the kernel takes.
    ///
    /// # Errors
    /// The kernel has no BTF, refuses the tables, or takes none of the programs that measure requests.
    pub fn start(families: &[Family]) -> Result<Self> {
        let (ebpf, outcomes) = attach(&Fitted::new()?, families)?;
        let Some(mut ebpf) = ebpf else { bail!("{}", blindness(&outcomes[0])) };
        attach::report(&outcomes);
        let (rings, tables) = (Rings::new(&mut ebpf)?, Tables::new(&mut ebpf)?);
        let stalls = Stalls::new(&mut ebpf)?;
        // Without it the lines of the kernel programs are missing from the log, and nothing else.
        let log = KernelLog::init(&mut ebpf).ok();
        Ok(Self { rings, tables, stalls, outcomes, log, ebpf })
    }

    /// Passes on what the programs wrote for the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Every duty, and what became of it.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    fn uses(&self, program: &plan::Program) -> bool {
        let mut ways = self.outcomes.iter().filter_map(|outcome| outcome.way);
        ways.any(|way| way.programs.contains(program))
    }

    /// Whether the end of a Unix socket has to be found by [`Self::open_sockets`].
    #[must_use]
    pub fn lists_unix(&self) -> bool {
        self.uses(&plan::OPEN_SOCKETS) && !self.uses(&plan::UNIX_CLOSE)
    }

    /// Those of the sockets that are surely gone.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn gone(&mut self, sockets: &[u64]) -> Result<HashSet<u64>> {
        if self.uses(&plan::OPEN_SOCKETS) {
            let open = self.open_sockets()?;
            return Ok(sockets.iter().copied().filter(|socket| !open.contains(socket)).collect());
        }
        let mut gone = HashSet::new();
        let by_address = self.outcomes.iter().any(|outcome| outcome.duty.when == plan::When::ByAddress);
        for &socket in sockets.iter().filter(|_| by_address) {
            if !self.tables.knows_socket(socket)? {
                gone.insert(socket);
            }
        }
        Ok(gone)
    }

    /// The sockets that watched processes hold, of those the programs have looked at.
    ///
    /// # Errors
    /// The kernel has no such iterator, or refuses the pass.
    pub fn open_sockets(&mut self) -> Result<HashSet<u64>> {
        let program: &mut Iter = self
            .ebpf
            .program_mut(plan::OPEN_SOCKETS.name)
            .context("program is not in the object")?
            .try_into()?;
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

/// Why the agent does not start: it would measure nothing.
fn blindness(calls: &Outcome) -> String {
    format!(
        "this kernel takes no program at the reads and writes of sockets, without which {}: {}; `inferscope doctor` \
         says what it lacks and what to do",
        calls.duty.without,
        calls.reasons()
    )
}

#[cfg(test)]
mod tests {
    use super::attach::Refusal;
    use super::*;

    #[test]
    fn refusal_to_start_names_what_was_refused_and_where_to_look() {
        let refused = ["the kernel has no tracepoint sock_recv_length", "load: EPERM"];
        let refused = refused.map(|reason| Refusal { program: "socket_read", reason: reason.to_owned() });
        let text = blindness(&Outcome { duty: &plan::CALLS, way: None, refused: refused.to_vec() });
        assert!(text.contains("sock_recv_length; load: EPERM; `inferscope doctor`"), "{text}");
    }
}
