//! The kernel's types: any bytes as the file that describes them.
//!
//! Input: the file.

use inferscope::probe::btf::KernelTypes;

use crate::memory::held;

/// One number for each type, of which each takes twelve bytes; a list that grows holds twice as much.
const HELD_FACTOR: usize = 3;

/// Of a function.
const ARGUMENTS_MAX: usize = 64;

pub fn run(bytes: &[u8]) {
    let before = held();
    let Ok(types) = KernelTypes::parse(bytes.to_vec()) else { return };
    let more = held().saturating_sub(before);
    assert!(more <= HELD_FACTOR * bytes.len() + 64, "{more} bytes held of {}", bytes.len());
    for name in ["sched_switch", "sock_send_length", "a", ""] {
        if types.tracepoint_arguments(name).is_some() {
            let text = format!("btf_trace_{name}\0");
            assert!(bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{name} is nowhere");
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
    for arguments in
        [types.tracepoint_arguments("sched_switch"), types.function_arguments("f")].into_iter().flatten()
    {
        assert!(
            arguments.len() <= ARGUMENTS_MAX && arguments.iter().all(|text| text.len() <= bytes.len() + 16)
        );
    }
    if types.has_enumerator("iter_type", "ITER_UBUF") {
        assert!(bytes.windows(10).any(|part| part == b"ITER_UBUF\0"));
    }
}
