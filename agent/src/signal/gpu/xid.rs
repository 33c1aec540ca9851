//! What the codes of faults (XIDs) mean: who is to blame as a rule, and what to do.
//!
//! In: a code. Out: its class and a sentence. Facts from the driver's catalogue of XIDs
//! (<https://docs.nvidia.com/deploy/xid-errors/>); a code that is not here is `unknown`.

use crate::gpu::OTHER_XID;

/// Whose fault it is as a rule, from the least to the most work for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A program did something wrong: others on this GPU are well.
    Application,
    /// Driver or firmware.
    Driver,
    /// Memory of the GPU.
    Memory,
    /// Links between GPUs.
    Link,
    /// The GPU, its power or its bus.
    Hardware,
    /// Not in the table.
    Unknown,
}

impl Class {
    /// Value of the label `class`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Driver => "driver",
            Self::Memory => "memory",
            Self::Link => "link",
            Self::Hardware => "hardware",
            Self::Unknown => "unknown",
        }
    }
}

/// One code.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub code: u64,
    pub class: Class,
    /// What it is, in few words.
    pub what: &'static str,
    pub action: &'static str,
}

const RESTART: &str = "restart the server; if it comes again, look for a bug in the server or its kernels";
const RESET: &str = "stop what runs on the GPU and reset it; if it comes again, have the GPU tested";
const RESET_DRIVER: &str = "reset the GPU or restart the node; if it comes again, try another driver";
const NOTHING: &str = "nothing by itself: look for the fault that came before it";
const LINK: &str = "reset the GPUs of this node; if it comes again, have links and switches tested";
const SOON: &str = "nothing now; reset the GPU at the next chance, so that the repair takes effect";
const REPLACE: &str = "drain the node and have the GPU replaced if a reset does not help";

/// Codes worth a word, in their order.
pub const KNOWN: [Known; 45] = [
    known(8, Class::Driver, "the GPU stopped processing", RESTART),
    known(11, Class::Application, "commands that are not valid", RESTART),
    known(13, Class::Application, "an engine refused what a kernel did, such as an address", RESTART),
    known(31, Class::Application, "a kernel reached for memory that is not its own", RESTART),
    known(32, Class::Driver, "commands were damaged on their way", RESTART),
    known(38, Class::Driver, "the firmware failed", RESET_DRIVER),
    known(43, Class::Application, "a program's channel was stopped; the GPU is well", RESTART),
    known(44, Class::Driver, "a change of contexts failed", RESET),
    known(45, Class::Application, "channels were cleaned up after a fault, or a kill", NOTHING),
    known(46, Class::Driver, "the GPU stopped processing", RESET),
    known(48, Class::Memory, "a memory error that could not be corrected", RESET),
    known(54, Class::Hardware, "a power cable is not connected", "connect the GPU's power cables"),
    known(61, Class::Driver, "the internal controller stopped at a check", RESET),
    known(62, Class::Driver, "the internal controller halted", RESET),
    known(63, Class::Memory, "a bad row or page of memory was marked for repair", SOON),
    known(64, Class::Memory, "a bad row or page of memory could not be marked", REPLACE),
    known(68, Class::Application, "the video decoder refused its commands", RESTART),
    known(69, Class::Application, "an engine refused a command", RESTART),
    known(74, Class::Link, "an error of an NVLink", LINK),
    known(78, Class::Driver, "a virtual GPU did not start", "check versions of host and guest driver"),
    known(
        79,
        Class::Hardware,
        "the GPU has left the bus",
        "restart the node; if it comes again, have power, heat and seat of the GPU tested",
    ),
    known(80, Class::Hardware, "data came damaged to the GPU", "have the GPU's seat and bus tested"),
    known(92, Class::Memory, "many memory errors, all corrected", "have the GPU's memory tested"),
    known(
        94,
        Class::Memory,
        "a memory error that only its own program felt",
        "restart the server that failed; reset the GPU at the next chance",
    ),
    known(95, Class::Memory, "a memory error that any program may have felt", RESET),
    known(109, Class::Driver, "a change of contexts took too long", RESTART),
    known(110, Class::Hardware, "a security fault", RESET),
    known(119, Class::Driver, "the GPU's system processor does not answer", RESET_DRIVER),
    known(120, Class::Driver, "the GPU's system processor failed", RESET_DRIVER),
    known(
        121,
        Class::Link,
        "an error, corrected, of the link to the processor",
        "nothing now; have the link tested if there are many",
    ),
    known(122, Class::Hardware, "the board's memory of settings could not be read", RESET_DRIVER),
    known(136, Class::Link, "an NVLink could not be trained", LINK),
    known(137, Class::Application, "a kernel reached over an NVLink for memory that is not its own", RESTART),
    known(140, Class::Memory, "a memory error that could not be repaired on the way", RESET),
    known(143, Class::Hardware, "the GPU did not start", RESET),
    known(144, Class::Link, "an error of an NVLink", LINK),
    known(145, Class::Link, "an error of an NVLink", LINK),
    known(146, Class::Link, "an error of an NVLink", LINK),
    known(147, Class::Link, "an error of an NVLink", LINK),
    known(148, Class::Link, "an error of an NVLink", LINK),
    known(149, Class::Link, "an error of an NVLink", LINK),
    known(150, Class::Link, "an error of an NVLink", LINK),
    known(
        154,
        Class::Driver,
        "the driver says what the GPU needs now, such as a reset",
        "do what the kernel's log says beside this code",
    ),
    known(156, Class::Memory, "a part of the GPU was taken out of use", SOON),
    known(157, Class::Memory, "a part of the GPU could not be taken out of use", REPLACE),
];

/// Codes that mean work for an operator at the first time: counted from 0 on, since no rate sees a counter that begins
/// at 1.
pub const GRAVE: [u64; 9] = [48, 64, 74, 79, 94, 95, 119, 120, 140];

const fn known(code: u64, class: Class, what: &'static str, action: &'static str) -> Known {
    Known { code, class, what, action }
}

/// What is said of a code that is not in the table.
const UNKNOWN: Known = known(
    OTHER_XID,
    Class::Unknown,
    "not known to this agent",
    "look the code up in the driver's catalogue of XIDs",
);

/// What this code means.
#[must_use]
pub fn find(code: u64) -> &'static Known {
    KNOWN.iter().find(|known| known.code == code).unwrap_or(&UNKNOWN)
}

/// The code as text: `other` for those beyond the limit of a GPU.
#[must_use]
pub fn text(code: u64) -> String {
    if code == OTHER_XID { "other".to_owned() } else { code.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_once_and_in_order_and_each_says_what_to_do() {
        assert!(KNOWN.is_sorted_by(|a, b| a.code < b.code));
        assert!(KNOWN.iter().all(|known| !known.what.is_empty() && !known.action.is_empty()));
        for code in GRAVE {
            assert!(!matches!(find(code).class, Class::Application | Class::Unknown), "{code}");
        }
    }

    #[test]
    fn a_code_has_a_class() {
        for (code, class, shown) in [
            (31, "application", "31"),
            (48, "memory", "48"),
            (74, "link", "74"),
            (79, "hardware", "79"),
            (119, "driver", "119"),
            (9999, "unknown", "9999"),
            (OTHER_XID, "unknown", "other"),
        ] {
            assert_eq!((find(code).class.label(), text(code).as_str()), (class, shown));
        }
    }
}
