//! Names in a kernel's type information (BTF).
//!
//! In: the bytes of `/sys/kernel/btf/vmlinux`. Out: whether a name is in its string section. Reads no types:
//! a tracepoint with BTF has a typedef `btf_trace_NAME`, and nothing else is named so. The whole report takes
//! some 50 ms this way; decoding all types (the `btf` crate) takes 360 to 480 by itself (6.18, 5.5 MB).

use memchr::memmem;

/// `struct btf_header`: magic, version, flags, header length; then four offsets and lengths.
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

/// The string section.
#[derive(Debug)]
pub(super) struct Names(Vec<u8>);

impl Names {
    /// `None`: these bytes are no BTF of this machine's byte order.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let (header, offset, len) = (word(4)?, word(16)?, word(20)?);
        if magic != MAGIC || header < HEADER_BYTES {
            return None;
        }
        let start = header.checked_add(offset)?;
        Some(Self(bytes.get(start..start.checked_add(len)?)?.to_vec()))
    }

    /// The kernel has this tracepoint, with typed arguments.
    pub(super) fn has_tracepoint(&self, name: &str) -> bool {
        self.has(&format!("btf_trace_{name}"))
    }

    /// Something is named so: a function, or (rarely) a member of the same name.
    pub(super) fn has(&self, name: &str) -> bool {
        // Strings lie one after the other, each with a zero on both sides: the section begins with one.
        memmem::find(&self.0, format!("\0{name}\0").as_bytes()).is_some()
    }
}

#[cfg(test)]
pub(super) fn sample(names: &[String]) -> Vec<u8> {
    let strings: Vec<u8> = std::iter::once(0)
        .chain(names.iter().flat_map(|name| name.bytes().chain(std::iter::once(0))))
        .collect();
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    for word in [HEADER_BYTES, 0, 4, 4, strings.len()] {
        bytes.extend((word as u32).to_ne_bytes());
    }
    // Four bytes of types, whatever they say.
    bytes.extend([0xff; 4]);
    bytes.extend(strings);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_found() {
        let names =
            Names::read(&sample(&["btf_trace_sched_switch".into(), "tcp_sendmsg_locked".into()])).unwrap();
        assert!(names.has_tracepoint("sched_switch"));
        assert!(!names.has_tracepoint("sched"));
        assert!(names.has("tcp_sendmsg_locked"));
        assert!(!names.has("tcp_sendmsg"));
    }

    #[test]
    fn bytes_that_are_no_btf_are_none() {
        let good = sample(&["a".into()]);
        let check = |bytes: &[u8]| assert!(Names::read(bytes).is_none(), "{bytes:?}");
        check(&[]);
        check(b"\x7fELF and then some more bytes than a header has");
        check(&good[..good.len() - 1]);
        for at in [4, 16, 20] {
            let mut wild = good.clone();
            wild[at..at + 4].fill(0xff);
            check(&wild);
        }
    }
}
