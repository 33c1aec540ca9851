//! The binary: reads what was asked, does it, and alone exits the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(inferscope::cli::main_with(inferscope::pipeline::run))
}
