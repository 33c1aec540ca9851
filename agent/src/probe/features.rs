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
}

impl Features {
    /// Asks a kernel's types; `lockdown` is the mode, where it is known.
    #[must_use]
    pub fn of(types: &KernelTypes, lockdown: Option<&str>) -> Self {
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
        }
    }

    /// As the programs of a family are to use them: those at system calls know a socket by its address alone,
    /// and the others must then do the same.
    #[must_use]
    pub fn within(&self, family: Family) -> Self {
        Self { helpers: self.helpers && family != Family::SystemCall, ..self.clone() }
    }

    /// Name and value of each global.
    #[must_use]
    pub fn globals(&self) -> Vec<Offset> {
        let mut globals = self.reads_kernel.clone().unwrap_or_default();
        globals.extend([
            ("HELPERS", self.helpers.into()),
            ("READS_KERNEL", self.reads_kernel.is_ok().into()),
            ("RECEIVE_ARGUMENTS", self.receive_arguments),
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
