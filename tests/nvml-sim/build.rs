//! Once loaded, the simulated library stays: the clock of its scenario has to survive an agent that opens it again.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
