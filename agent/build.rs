//! Builds the kernel programs, so that the agent is one file with them inside.

#![allow(
    unsafe_code,
    reason = "setting a variable of its own process is how a build script keeps -Z flags to the inner build"
)]

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

/// The pinned toolchain of rust-toolchain.toml: `-Z build-std` needs its own sources of `core`.
const TOOLCHAIN: &str = "1.95.0";

fn main() -> anyhow::Result<()> {
    // Only the inner build may use `-Z build-std` on a stable compiler.
    // SAFETY: the build script has one thread.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    let root_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf");
    println!("cargo:rerun-if-changed={}/../agent-common/src", env!("CARGO_MANIFEST_DIR"));
    build_ebpf(
        [Package { name: "inferscope-ebpf", root_dir, ..Default::default() }],
        Toolchain::Custom(TOOLCHAIN),
    )
    .context("build the kernel programs; `cargo xtask setup` installs what this needs")
}
