//! The tables: which program loads where, and how long each trial took.
//!
//! In: what each kernel came to. Out: text for people, and JSON with the same and all reasons.

use super::verdict::{Program, Tried};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One kernel's part of the report.
#[derive(Debug, Serialize)]
pub struct Examined {
    pub version: String,
    pub release: String,
    pub passed: bool,
    pub seconds: f64,
    pub programs: Vec<Program>,
    pub trials: Vec<Tried>,
    /// Each in a sentence.
    pub failures: Vec<String>,
}

pub fn text(kernels: &[Examined]) -> String {
    let mut text = programs(kernels);
    text.push_str(&reasons(kernels));
    text.push_str(&trials(kernels));
    text
}

fn programs(kernels: &[Examined]) -> String {
    let mut rows: BTreeMap<(&str, &str, &str), BTreeMap<usize, String>> = BTreeMap::new();
    for (column, kernel) in kernels.iter().enumerate() {
        for program in &kernel.programs {
            let row = rows.entry((&program.duty, &program.hook, &program.program)).or_default();
            row.insert(column, cell(program));
        }
    }
    let mut text = format!("\n{:<21}{:<31}{:<16}", "duty", "hook", "program");
    kernels.iter().for_each(|kernel| put(&mut text, &kernel.version));
    for ((duty, hook, program), cells) in rows {
        let _ = write!(text, "\n{duty:<21}{hook:<31}{program:<16}");
        (0..kernels.len()).for_each(|column| put(&mut text, cells.get(&column).map_or("", String::as_str)));
    }
    text + "\nInstructions that the verifier walked; `*`: in use, `-`: does not load.\n"
}

fn put(text: &mut String, cell: &str) {
    let _ = write!(text, "{cell:>9} ");
}

fn cell(program: &Program) -> String {
    let walked =
        program.verified_instructions.map_or_else(|| "loads".to_owned(), |number| number.to_string());
    match (&program.absent, program.in_use) {
        (Some(_), _) => "-".to_owned(),
        (None, true) => format!("{walked}*"),
        (None, false) => walked,
    }
}

/// Why programs do not load, with the kernels for which it holds.
fn reasons(kernels: &[Examined]) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for kernel in kernels {
        for program in &kernel.programs {
            let Some(reason) = &program.absent else { continue };
            reasons.entry((&program.program, reason)).or_default().push(&kernel.version);
        }
    }
    let lines = reasons.iter().map(|((program, reason), kernels)| {
        format!("  {program} on {}: {}\n", kernels.join(", "), reason.lines().next().unwrap_or_default())
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\nDoes not load:\n{lines}") }
}

fn trials(kernels: &[Examined]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for trial in kernels.iter().flat_map(|kernel| &kernel.trials) {
        if !names.contains(&trial.name.as_str()) {
            names.push(&trial.name);
        }
    }
    let mut text = format!("\n{:<40}", "seconds in the guest");
    kernels.iter().for_each(|kernel| put(&mut text, &kernel.version));
    for name in names {
        let _ = write!(text, "\n{name:<40}");
        for kernel in kernels {
            let tried = kernel.trials.iter().find(|trial| trial.name == name);
            put(&mut text, &tried.map_or_else(String::new, took));
        }
    }
    let _ = write!(text, "\n{:<40}", "the whole kernel, on this machine");
    kernels.iter().for_each(|kernel| put(&mut text, &format!("{:.0}", kernel.seconds)));
    text + "\n"
}

fn took(trial: &Tried) -> String {
    if trial.passed { format!("{:.0}", trial.seconds) } else { "FAILED".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(version: &str, absent: Option<&str>, verified: Option<u64>) -> Examined {
        let program = Program {
            duty: "socket bytes".to_owned(),
            program: "tcp_read".to_owned(),
            hook: "fexit/tcp_recvmsg".to_owned(),
            in_use: absent.is_none(),
            absent: absent.map(str::to_owned),
            verified_instructions: verified,
        };
        let trial = Tried {
            name: "requests".to_owned(),
            came_to: "passed".to_owned(),
            passed: verified.is_some(),
            seconds: 41.6,
        };
        Examined {
            version: version.to_owned(),
            release: version.to_owned(),
            passed: true,
            seconds: 61.2,
            programs: vec![program],
            trials: vec![trial],
            failures: Vec::new(),
        }
    }

    #[test]
    fn each_kernel_is_a_column() {
        let table = text(&[
            kernel("5.10", None, None),
            kernel("6.12", None, Some(4321)),
            kernel("7.3", Some("no such function"), None),
        ]);
        let row = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("socket bytes")[2..], ["fexit/tcp_recvmsg", "tcp_read", "loads*", "4321*", "-"]);
        assert_eq!(row("requests")[1..], ["FAILED", "42", "FAILED"]);
        assert!(table.contains("tcp_read on 7.3: no such function"), "{table}");
    }
}
