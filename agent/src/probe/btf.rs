//! What the running kernel's BTF has: tracepoints by name and the offsets of struct members.
//!
//! In: the bytes of `/sys/kernel/btf/vmlinux`. Out: yes or no, and byte offsets. A reader of our own,
//! since the crates keep every type of the kernel in memory: `btf` 0.5 takes 270 ms and 85 MB, of which
//! 50 stay resident, `btf-rs` 2.0 190 ms and 42 MB; this takes 10 ms and the file's own 6 MB.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
/// Structs within structs that a member path may go through.
const DEPTH_MAX: usize = 8;
/// Arguments of a function; a program can have twelve.
const ARGUMENTS_MAX: u32 = 64;
/// Members looked at for one name, so that no file holds the agent; the largest struct has a few hundred.
const MEMBERS_MAX: usize = 65_536;

const KIND_INT: u32 = 1;
const KIND_POINTER: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// The types of a kernel.
pub struct KernelTypes {
    bytes: Vec<u8>,
    strings_at: usize,
    /// Position of each type; index is its id less one.
    types: Vec<u32>,
}

impl KernelTypes {
    /// Reads the BTF file of a kernel.
    ///
    /// # Errors
    /// The file is not there (a kernel without `CONFIG_DEBUG_INFO_BTF`) or is no BTF.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("read kernel types from {}", path.display()))?;
        Self::parse(bytes).with_context(|| format!("parse kernel types of {}", path.display()))
    }

    /// Reads the content of such a file.
    ///
    /// # Errors
    /// The bytes are no BTF.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() < HEADER_BYTES || u16::from_ne_bytes([bytes[0], bytes[1]]) != MAGIC {
            bail!("no BTF header");
        }
        let header = u32_at(&bytes, 4)? as usize;
        let (types_at, types_len) = (u32_at(&bytes, 8)? as usize, u32_at(&bytes, 12)? as usize);
        let strings_at = header + u32_at(&bytes, 16)? as usize;
        let mut types = Vec::new();
        let mut at = header + types_at;
        let end = at + types_len;
        while at < end {
            types.push(u32::try_from(at)?);
            at += TYPE_BYTES + trailer(u32_at(&bytes, at + 4)?)?;
        }
        Ok(Self { bytes, strings_at, types })
    }

    /// Types of a tracepoint's arguments, as a tp_btf program gets them, without qualifiers: `sock *`, `int`.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<Vec<String>> {
        let pointer = self.behind(self.find(KIND_TYPEDEF, &format!("btf_trace_{name}"))?)?;
        let mut arguments = self.arguments(self.behind(pointer)?)?;
        // The first is the tracepoint's own.
        (!arguments.is_empty()).then(|| arguments.split_off(1))
    }

    /// The same of a function's.
    #[must_use]
    pub fn function_arguments(&self, name: &str) -> Option<Vec<String>> {
        self.arguments(self.behind(self.find(KIND_FUNC, name)?)?)
    }

    /// Whether an enumeration has a constant of this name.
    #[must_use]
    pub fn has_enumerator(&self, enumeration: &str, name: &str) -> bool {
        let Some(at) = self.find(KIND_ENUM, enumeration) else { return false };
        let count = u32_at(&self.bytes, at + 4).map_or(0, |info| info & 0xffff) as usize;
        (0..count).any(|i| self.name_is(at + TYPE_BYTES + i * 8, name))
    }

    /// Byte offset of a member such as `__sk_common.skc_num` of `sock`; unnamed structs and unions in
    /// between need no name.
    ///
    /// # Errors
    /// The kernel has no such struct or member.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32> {
        let missing = || format!("kernel has no {structure}.{path}");
        let mut at = self.find(KIND_STRUCT, structure).with_context(missing)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, type_id) = self.member(at, name, DEPTH_MAX, &mut 0).with_context(missing)?;
            bits = offset.checked_add(bits).with_context(missing)?;
            at = self.resolve(type_id).unwrap_or(at);
        }
        Ok(bits / 8)
    }

    /// Of a member that is one bit: byte offset of the u32 that has it, and its mask there.
    ///
    /// # Errors
    /// The kernel has no such struct or member.
    pub fn bit(&self, structure: &str, name: &str) -> Result<(u32, u32)> {
        let missing = || format!("kernel has no {structure}.{name}");
        let at = self.find(KIND_STRUCT, structure).with_context(missing)?;
        let (bits, _) = self.member(at, name, DEPTH_MAX, &mut 0).with_context(missing)?;
        Ok((bits / 32 * 4, 1 << (bits % 32)))
    }

    /// Position of the type that the one at `at` refers to.
    fn behind(&self, at: usize) -> Option<usize> {
        self.position(u32_at(&self.bytes, at + 8).ok()?)
    }

    fn position(&self, type_id: u32) -> Option<usize> {
        self.types.get((type_id as usize).checked_sub(1)?).map(|&at| at as usize)
    }

    fn arguments(&self, prototype: usize) -> Option<Vec<String>> {
        let info = u32_at(&self.bytes, prototype + 4).ok()?;
        if kind_of(info) != KIND_FUNC_PROTO || info & 0xffff > ARGUMENTS_MAX {
            return None;
        }
        let argument = |i| self.describe(u32_at(&self.bytes, prototype + TYPE_BYTES + i * 8 + 4).ok()?);
        (0..(info & 0xffff) as usize).map(argument).collect()
    }

    /// A type in the words of C, with typedefs and qualifiers taken off.
    fn describe(&self, mut type_id: u32) -> Option<String> {
        let mut stars = String::new();
        for _ in 0..DEPTH_MAX {
            let Some(at) = self.position(type_id) else { return Some(format!("void{stars}")) };
            match kind_of(u32_at(&self.bytes, at + 4).ok()?) {
                KIND_POINTER if stars.is_empty() => stars.push_str(" *"),
                KIND_POINTER => stars.push('*'),
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG => {}
                _ => return Some(format!("{}{stars}", self.name(at)?)),
            }
            type_id = u32_at(&self.bytes, at + 8).ok()?;
        }
        None
    }

    fn name(&self, at: usize) -> Option<&str> {
        let rest = self.bytes.get(self.strings_at + u32_at(&self.bytes, at).ok()? as usize..)?;
        std::str::from_utf8(rest.split(|&byte| byte == 0).next()?).ok()
    }

    fn find(&self, kind: u32, name: &str) -> Option<usize> {
        self.types.iter().map(|&at| at as usize).find(|&at| {
            let Ok(info) = u32_at(&self.bytes, at + 4) else { return false };
            kind_of(info) == kind && self.name_is(at, name)
        })
    }

    fn name_is(&self, at: usize, name: &str) -> bool {
        let Ok(offset) = u32_at(&self.bytes, at) else { return false };
        let rest = self.bytes.get(self.strings_at + offset as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Offset in bits and type of a member of the struct or union at `at`.
    fn member(&self, at: usize, name: &str, depth: usize, seen: &mut usize) -> Option<(u32, u32)> {
        let info = u32_at(&self.bytes, at + 4).ok()?;
        let has_bitfields = info >> 31 == 1;
        for i in 0..(info & 0xffff) as usize {
            *seen += 1;
            if *seen > MEMBERS_MAX {
                return None;
            }
            let member = at + TYPE_BYTES + i * 12;
            let type_id = u32_at(&self.bytes, member + 4).ok()?;
            let offset = u32_at(&self.bytes, member + 8).ok()?;
            let offset = if has_bitfields { offset & 0xff_ffff } else { offset };
            if self.name_is(member, name) {
                return Some((offset, type_id));
            }
            let unnamed = u32_at(&self.bytes, member).ok()? == 0;
            if unnamed
                && depth > 0
                && let Some(inside) = self.resolve(type_id)
                && let Some((inner, found)) = self.member(inside, name, depth - 1, seen)
            {
                return Some((offset.checked_add(inner)?, found));
            }
        }
        None
    }

    /// The struct or union behind typedefs and qualifiers; `None` for any other type.
    fn resolve(&self, mut type_id: u32) -> Option<usize> {
        for _ in 0..DEPTH_MAX {
            let at = self.position(type_id)?;
            match kind_of(u32_at(&self.bytes, at + 4).ok()?) {
                KIND_STRUCT | KIND_UNION => return Some(at),
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG => {
                    type_id = u32_at(&self.bytes, at + 8).ok()?;
                }
                _ => return None,
            }
        }
        None
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..at + 4).context("BTF ends in the middle of a type")?;
    Ok(u32::from_ne_bytes(word.try_into()?))
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow the common part of a type.
fn trailer(info: u32) -> Result<usize> {
    let count = (info & 0xffff) as usize;
    Ok(match kind_of(info) {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
        0 | 20.. => bail!("unknown kind of type {}", kind_of(info)),
        _ => 0,
    })
}

/// Type information made for tests.
#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use super::sample::Sample;
    use super::*;

    const PATH: &str = "/sys/kernel/btf/vmlinux";

    #[test]
    fn a_union_of_itself_does_not_hold_the_agent() {
        // A struct `s` of 4,000 members without a name, each of its own type.
        let strings = b"\0s\0";
        let mut types = vec![1, KIND_STRUCT << 24 | 4000, 8];
        types.extend([0, 1, 0].repeat(4000));
        let types: Vec<u8> = types.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut bytes = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
        for word in [HEADER_BYTES, 0, types.len(), types.len(), strings.len()] {
            bytes.extend((word as u32).to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        assert!(KernelTypes::parse(bytes).unwrap().offset("s", "nowhere").is_err());
    }

    #[test]
    fn broken_bytes_are_an_error() {
        assert!(KernelTypes::parse(Vec::new()).is_err());
        assert!(KernelTypes::parse(vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0]).is_err());
        let mut cut = vec![0; 64];
        cut[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        cut[4] = 24;
        cut[12] = 200;
        assert!(KernelTypes::parse(cut).is_err());
    }

    #[test]
    fn only_whole_names_of_hooks_are_found() {
        let types =
            Sample::default().tracepoint("sched_switch", &["bool"]).tracepoint("sk_data_ready", &["sock *"]);
        let types =
            KernelTypes::parse(types.function("tcp_sendmsg", &["sock *", "msghdr *"]).finish()).unwrap();
        let found = ["sched_switch", "sk_data_ready", "sched", "switch", "sched_switch_x", ""]
            .map(|name| types.tracepoint_arguments(name).is_some());
        assert_eq!(found, [true, true, false, false, false, false]);
        assert_eq!(types.function_arguments("tcp_sendmsg").unwrap(), ["sock *", "msghdr *"]);
        assert_eq!(types.function_arguments("tcp_send"), None);
    }

    #[test]
    fn members_and_constants_are_found() {
        let types =
            Sample::default().structure("file", &["f_op", "f_inode"]).constant("bpf_func_id", "BPF_FUNC_a");
        let types = KernelTypes::parse(types.finish()).unwrap();
        assert_eq!(types.offset("file", "f_inode").unwrap(), 8);
        assert!(types.offset("file", "f_inod").is_err());
        assert!(types.has_enumerator("bpf_func_id", "BPF_FUNC_a"));
        assert!(!types.has_enumerator("bpf_func_id", "BPF_FUNC_"));
    }

    #[test]
    fn running_kernel_answers() {
        let Ok(types) = KernelTypes::read(Path::new(PATH)) else { return };
        let exec = types.tracepoint_arguments("sched_process_exec").unwrap();
        assert_eq!(exec, ["task_struct *", "int", "linux_binprm *"]);
        assert_eq!(types.tracepoint_arguments("no_such_tracepoint"), None);
        let send = types.function_arguments("tcp_sendmsg").unwrap();
        assert_eq!(send, ["sock *", "msghdr *", "long unsigned int"]);
        assert!(types.has_enumerator("bpf_func_id", "BPF_FUNC_ringbuf_output"));
        assert!(!types.has_enumerator("bpf_func_id", "BPF_FUNC_ringbuf"));
        assert_eq!(types.offset("sock", "__sk_common.skc_family").unwrap(), 16);
        assert_eq!(types.offset("sock", "__sk_common.skc_num").unwrap(), 14);
        let (pid, tgid) =
            (types.offset("task_struct", "pid").unwrap(), types.offset("task_struct", "tgid").unwrap());
        assert_eq!(tgid, pid + 4);
        assert!(types.offset("sock", "no_such_member").is_err());
    }
}
