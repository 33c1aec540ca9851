//! What the running kernel lets programs do, beyond which hooks it has.
//!
//! In: its types and its lockdown mode. Out: the globals of `agent-ebpf/src/features.rs`.

use std::fs;
use std::path::Path;

use super::btf::KernelTypes;
use super::offsets::{self, Offset};
use super::plan::Family;

/// Where a kernel says what it locks down, where it can.
pub const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// A helper of Linux 5.16, youngest of those that the programs use. Kernels of distributions that have it
/// have the older ones too, whatever they call themselves.
const YOUNGEST_HELPER: &str = "BPF_FUNC_skc_to_unix_sock";

/// See the globals of the same names.
#[derive(Clone, Debug)]
pub struct Features {
    pub helpers: bool,
    /// Where what is read by address lies, or the reason why programs may not.
    pub reads_kernel: Result<Vec<Offset>, String>,
    /// The reason why programs may not copy memory of the process.
    pub copies_user: Result<(), String>,
    pub receive_arguments: u32,
    preemption: Preemption,
    /// Other threads may get the processor while a program of the family runs.
    pub interrupted: bool,
}

/// Where a kernel lets other threads onto the processor while a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preemption {
    pub tracepoints: bool,
    pub functions: bool,
}

impl Preemption {
    /// By what a kernel says of itself. It is not in its types: `release` such as `7.0.4-amd64`, `build` such as
    /// `#1 SMP PREEMPT_DYNAMIC Debian ...`, and the command line it was started with.
    #[must_use]
    pub fn of(release: &str, build: &str, arguments: &str) -> Self {
        let preempts = build.contains("PREEMPT");
        let major: u32 = release.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        // From there on tracepoints do not keep the processor to themselves, and no kernel that can do
        // otherwise does so only where it is asked to.
        let tracepoints = preempts && major >= 7;
        let full = !build.contains("PREEMPT_DYNAMIC") || arguments.contains("preempt=full");
        Self { tracepoints, functions: tracepoints || preempts && full }
    }

    /// Of the running kernel.
    #[must_use]
    pub fn of_node() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(
            &read("/proc/sys/kernel/osrelease"),
            &read("/proc/sys/kernel/version"),
            &read("/proc/cmdline"),
        )
    }
}

impl Features {
    /// Asks a kernel's types; `lockdown` is the mode, where it is known. As for [`Family::Tracepoint`].
    #[must_use]
    pub fn of(types: &KernelTypes, lockdown: Option<&str>, preemption: Preemption) -> Self {
        let confidential = lockdown == Some("confidentiality");
        let reads_kernel = match offsets::look_up_by_address(types) {
            _ if confidential => Err("lockdown `confidentiality` forbids to read kernel memory".to_owned()),
            Err(error) => Err(format!("{error:#}")),
            Ok(offsets) => Ok(offsets),
        };
        // The kernel would allow it. But aya tries whether kernel memory may be read, takes the refusal for a
        // kernel before 5.5, and has user memory read by the helper of that time, which is refused too.
        let copies_user = if confidential {
            Err("lockdown `confidentiality` forbids the helper by which the bytes of a call are copied"
                .to_owned())
        } else {
            Ok(())
        };
        let arguments = types.function_arguments("tcp_recvmsg").map_or(0, |arguments| arguments.len());
        Self {
            helpers: types.has_enumerator("bpf_func_id", YOUNGEST_HELPER),
            reads_kernel,
            copies_user,
            receive_arguments: u32::try_from(arguments).unwrap_or(0),
            preemption,
            interrupted: preemption.tracepoints,
        }
    }

    /// As the programs of a family are to use them: those at system calls know a socket by its address alone,
    /// and the others must then do the same.
    #[must_use]
    pub fn within(&self, family: Family) -> Self {
        let interrupted = match family {
            Family::Tracepoint => self.preemption.tracepoints,
            Family::Function => self.preemption.functions,
            // Too dear to be made twice.
            Family::SystemCall => false,
        };
        Self { helpers: self.helpers && family != Family::SystemCall, interrupted, ..self.clone() }
    }

    /// Name and value of each global.
    #[must_use]
    pub fn globals(&self) -> Vec<Offset> {
        let mut globals = self.reads_kernel.clone().unwrap_or_default();
        globals.extend([
            ("HELPERS", self.helpers.into()),
            ("READS_KERNEL", self.reads_kernel.is_ok().into()),
            ("RECEIVE_ARGUMENTS", self.receive_arguments),
            ("INTERRUPTED", self.interrupted.into()),
        ]);
        globals
    }
}

/// The mode that a lockdown file says: `none [integrity] confidentiality`.
#[must_use]
pub fn lockdown(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_says_of_itself_tells_whether_it_interrupts_programs() {
        let check = |release, build, arguments, tracepoints, functions| {
            let found = Preemption::of(release, build, arguments);
            assert_eq!(found, Preemption { tracepoints, functions }, "{release} {build} {arguments}");
        };
        check("5.14.0-570.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC Tue May 6", "ro quiet", false, false);
        check("5.14.0-570.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC Tue May 6", "preempt=full", false, true);
        check("5.10.0-28-rt-amd64", "#1 SMP PREEMPT_RT Debian 5.10.209-2", "", false, true);
        check("5.10.0-28-amd64", "#1 SMP Debian 5.10.209-2", "", false, false);
        check("6.12.43+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian", "", false, false);
        check("7.0.4+deb14-amd64", "#1 SMP PREEMPT_DYNAMIC Debian", "", true, true);
        check("10.1.0", "#1 SMP", "", false, false);
        check("", "", "", false, false);
    }
}
