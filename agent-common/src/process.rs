//! Process events: who came, who became something else, who went.

/// Size of the PROCESSES ring: 4,096 events between two looks of the agent.
pub const PROCESSES_BYTES: u32 = 128 << 10;

/// What happened. Values of [`ProcessEvent::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProcessKind {
    /// A process ran another program: it may be a server now.
    Exec = 1,
    /// A watched process made a child, which is watched from its first instruction.
    Fork = 2,
    /// The last thread of a watched process ends. May come twice.
    Exit = 3,
    /// A watched process began to listen on TCP port `port`.
    Listen = 4,
    /// A watched process, or the last one that had it, closed a listening TCP socket.
    Unlisten = 5,
}

impl TryFrom<u32> for ProcessKind {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        Ok(match value {
            1 => Self::Exec,
            2 => Self::Fork,
            3 => Self::Exit,
            4 => Self::Listen,
            5 => Self::Unlisten,
            other => return Err(other),
        })
    }
}

/// One event of the PROCESSES ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEvent {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub time_ns: u64,
    /// A [`ProcessKind`].
    pub kind: u32,
    /// The process; of a fork, the child.
    pub tgid: u32,
    /// Of a fork, the process that made it; else 0.
    pub parent_tgid: u32,
    /// Of a listen, the local port; else 0.
    pub port: u32,
}

const _: () = assert!(size_of::<ProcessEvent>() == 24 && align_of::<ProcessEvent>() == 8);
