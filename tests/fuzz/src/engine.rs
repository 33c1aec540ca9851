//! The fuzzing engine's door to the targets: `XTASK_FUZZ_TARGET` names the one that this process runs.

#![no_main]
#![allow(unsafe_code, reason = "the engine calls two functions by their C names, which its macro exports")]

use std::sync::OnceLock;

use inferscope_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn named() -> &'static Target {
    let name = std::env::var("XTASK_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("XTASK_FUZZ_TARGET is {name:?}, and names no target"))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.get_or_init(named).run)(bytes));
