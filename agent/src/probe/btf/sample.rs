//! Writes type information as a kernel would, for tests: hooks with their arguments, structs, constants.

use super::{
    HEADER_BYTES, KIND_ENUM, KIND_FUNC, KIND_FUNC_PROTO, KIND_INT, KIND_POINTER, KIND_STRUCT, KIND_TYPEDEF,
    MAGIC,
};

/// Type information that is being put together; a type's number is its place.
#[derive(Default)]
pub(crate) struct Sample {
    types: Vec<u8>,
    /// After the empty string at its start.
    strings: Vec<u8>,
    count: u32,
}

impl Sample {
    pub(crate) fn tracepoint(mut self, name: &str, arguments: &[&str]) -> Self {
        let prototype = self.prototype(arguments, true);
        let pointer = self.add("", KIND_POINTER << 24, prototype, &[]);
        self.add(&format!("btf_trace_{name}"), KIND_TYPEDEF << 24, pointer, &[]);
        self
    }

    pub(crate) fn function(mut self, name: &str, arguments: &[&str]) -> Self {
        let prototype = self.prototype(arguments, false);
        self.add(name, KIND_FUNC << 24, prototype, &[]);
        self
    }

    /// A struct with members of 8 bytes each.
    pub(crate) fn structure(mut self, name: &str, members: &[&str]) -> Self {
        let words: Vec<u32> =
            members.iter().zip(0..).flat_map(|(member, i)| [self.string(member), 0, i * 64]).collect();
        self.add(name, KIND_STRUCT << 24 | members.len() as u32, 8 * members.len() as u32, &words);
        self
    }

    pub(crate) fn constant(mut self, enumeration: &str, name: &str) -> Self {
        let name = self.string(name);
        self.add(enumeration, KIND_ENUM << 24 | 1, 4, &[name, 7]);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [HEADER_BYTES, 0, self.types.len(), self.types.len(), self.strings.len() + 1] {
            bytes.extend((word as u32).to_ne_bytes());
        }
        bytes.extend(self.types);
        bytes.push(0);
        bytes.extend(self.strings);
        bytes
    }

    fn prototype(&mut self, arguments: &[&str], own_first: bool) -> u32 {
        let mut words = if own_first { vec![0, 0] } else { Vec::new() };
        for argument in arguments {
            let argument = self.argument(argument);
            words.extend([0, argument]);
        }
        let count = words.len() as u32 / 2;
        self.add("", KIND_FUNC_PROTO << 24 | count, 0, &words)
    }

    fn argument(&mut self, text: &str) -> u32 {
        match text.strip_suffix(" *") {
            Some(structure) => {
                let structure = self.add(structure, KIND_STRUCT << 24, 8, &[]);
                self.add("", KIND_POINTER << 24, structure, &[])
            }
            None => self.add(text, KIND_INT << 24, 4, &[32]),
        }
    }

    fn add(&mut self, name: &str, info: u32, size_or_type: u32, trailer: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, size_or_type].iter().chain(trailer) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32 + 1;
        self.strings.extend(text.bytes());
        self.strings.push(0);
        at
    }
}
