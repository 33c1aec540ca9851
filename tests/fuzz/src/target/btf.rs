//! The kernel's types: any bytes as the file that describes them.
//!
//! Input: the file.

use std::time::{Duration, Instant};

use inferscope::probe::btf::KernelTypes;

use crate::memory::held;

/// A look takes no longer, whatever refers to what. Ten times what a slow machine needs.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// One number for each type, of which each takes twelve bytes; a list that grows holds twice as much.
const HELD_FACTOR: usize = 3;

pub fn run(bytes: &[u8]) {
    let before = held();
    let Ok(types) = KernelTypes::parse(bytes.to_vec()) else { return };
    let more = held().saturating_sub(before);
    assert!(more <= HELD_FACTOR * bytes.len() + 64, "{more} bytes held of {}", bytes.len());
    let began = Instant::now();
    for name in ["sched_switch", "sock_send_length", "a", ""] {
        let texts = [(types.tracepoint_arguments(name), "btf_trace_"), (types.function_arguments(name), "")];
        for (_, prefix) in texts.iter().filter(|(arguments, _)| arguments.is_some()) {
            let text = format!("{prefix}{name}\0");
            assert!(bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{name} is nowhere");
        }
        if types.has_enumerator("bpf_func_id", name) {
            assert!(bytes.windows(12).any(|part| part == b"bpf_func_id\0"), "the enumeration is nowhere");
        }
    }
    for (structure, path) in [
        ("sock", "__sk_common.skc_family"),
        ("task_struct", "tgid"),
        ("msghdr", "msg_iter"),
        ("s", "a"),
        ("s", "a.a.a.a"),
        ("", ""),
    ] {
        if types.offset(structure, path).is_ok() {
            let name = path.rsplit('.').next().unwrap_or_default();
            assert!(bytes.windows(name.len().max(1)).any(|part| part == name.as_bytes() || name.is_empty()));
        }
    }
    assert!(began.elapsed() < LOOK_MAX, "{:?} for a look", began.elapsed());
}
