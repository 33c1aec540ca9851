//! The binary: reads what was asked, does it, and alone exits the process.

fn main() {}
