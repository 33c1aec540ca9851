//! With which rights the agent is started: those of the systemd unit, fewer, or all.
//!
//! In: the environment (`XTASK_AGENT_CAPABILITIES`) or a test's choice. Out: a process that begins with exactly
//! these. Capabilities belong to a thread, and a child gets those of the thread that starts it: so it is started
//! by a thread of its own, which gives up everything else first.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Gid, Uid};
use rustix::thread as own;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

/// Names the rights where a test does not.
const VARIABLE: &str = "XTASK_AGENT_CAPABILITIES";
const UNIT: &str = include_str!("../../deploy/inferscope.service");
/// Capabilities that a kernel can have: bits of its sets.
const CAPABILITY_BITS: u32 = 64;

/// The user that owns nothing.
pub const NOBODY: u32 = 65534;

/// What the agent is started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rights {
    /// Root with the capabilities of the systemd unit.
    #[default]
    Unit,
    /// A user that owns nothing, with the two capabilities that loading kernel programs takes.
    Two,
    /// Root as it is.
    All,
}

impl FromStr for Rights {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "unit" => Ok(Self::Unit),
            "two" => Ok(Self::Two),
            "all" => Ok(Self::All),
            other => bail!("{VARIABLE} is `{other}`, and not unit, two or all"),
        }
    }
}

impl Rights {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Where it says something else.
    pub fn of_environment() -> Result<Self> {
        std::env::var(VARIABLE).map_or(Ok(Self::default()), |text| text.parse())
    }

    /// The capabilities of a process that begins with these.
    ///
    /// # Errors
    ///
    /// Where the unit names one that there is not.
    pub fn capabilities(self) -> Result<CapabilitySet> {
        match self {
            Self::Unit => unit_capabilities("CapabilityBoundingSet"),
            Self::Two => Ok(CapabilitySet::BPF | CapabilitySet::PERFMON),
            Self::All => Ok(own::capabilities(None).context("read own capabilities")?.permitted),
        }
    }

    /// Starts `command` with these rights.
    ///
    /// # Errors
    ///
    /// Where it does not start, or this process may not give rights.
    pub fn spawn(self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        let spawn = || {
            self.take().with_context(|| format!("take the rights `{self:?}`"))?;
            command.spawn().with_context(|| format!("run {}", program.display()))
        };
        std::thread::scope(|scope| scope.spawn(spawn).join())
            .expect("the thread that starts it does not panic")
    }

    /// Has the user of these rights reach `folder` and what is in it, and the binary, of which it gets a copy there
    /// where it needs one.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be changed.
    pub fn reach(self, folder: &Path, binary: &Path) -> Result<PathBuf> {
        if self != Self::Two {
            return Ok(binary.to_owned());
        }
        std::fs::set_permissions(folder, Permissions::from_mode(0o777)).context("open the folder to all")?;
        let copy = folder.join(binary.file_name().context("a binary without a name")?);
        if !copy.exists() {
            std::fs::copy(binary, &copy).with_context(|| format!("copy {}", binary.display()))?;
        }
        Ok(copy)
    }

    /// The calling thread has these rights from now on.
    fn take(self) -> Result<()> {
        if self == Self::All {
            return Ok(());
        }
        let wanted = self.capabilities()?;
        let held = own::capabilities(None)?.permitted;
        ensure!(held.contains(wanted), "this process has {held:?} itself");
        for bit in 0..CAPABILITY_BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            // An error: this kernel has no more.
            let Ok(bounding) = own::capability_is_in_bounding_set(one) else { break };
            if bounding && !wanted.contains(one) {
                own::remove_capability_from_bounding_set(one).context("bound the capabilities")?;
            }
        }
        own::set_no_new_privs(true)?;
        // Root gets what its bounds allow when it executes the program; another user what is ambient.
        if self == Self::Two { become_nobody(wanted) } else { Ok(()) }
    }
}

fn become_nobody(keep: CapabilitySet) -> Result<()> {
    // Otherwise the kernel takes all of them from a thread that is root no more.
    own::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    own::set_thread_groups(&[]).context("leave all groups")?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    own::set_thread_res_gid(group, group, group).context("change the group")?;
    own::set_thread_res_uid(user, user, user).context("change the user")?;
    own::set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: keep })?;
    for one in keep.iter() {
        own::configure_capability_in_ambient_set(one, true).context("keep a capability")?;
    }
    Ok(())
}

/// The capabilities that the unit names under this key.
///
/// # Errors
///
/// Where there is no such key, or a name is no capability.
pub fn unit_capabilities(key: &str) -> Result<CapabilitySet> {
    let values = unit_values(key);
    let names = values.first().with_context(|| format!("the unit has no {key}"))?.split_whitespace();
    let capability = |name: &str| {
        let known = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
        known.with_context(|| format!("the unit's {key} names {name}"))
    };
    names.map(capability).collect()
}

/// What the unit says under this key, which it may do several times.
#[must_use]
pub fn unit_values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}
