//! The shape of the code that no compiler checks: files stay short, say what they are, and import downwards only.
//!
//! In: the sources. Out: an error that lists every breach with its place. Function length is a lint of clippy.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file above its tests.
const FILE_LINES_MAX: usize = 500;
const CRATES: [&str; 7] =
    ["agent", "agent-common", "agent-ebpf", "tests", "tests/fuzz", "tests/nvml-sim", "xtask"];

/// What a room of the agent must not import: the way of a value is kernel, probe, request, blame, signal, export.
const WALLS: [Wall; 14] = [
    Wall {
        room: "clock",
        closed: &["probe", "workload", "request", "blame", "signal", "export", "command", "pipeline"],
    },
    // What asks others knows nothing of what is measured: a server of models and an agent are the same to it.
    Wall {
        room: "http_client",
        closed: &[
            "probe", "workload", "request", "blame", "engine", "signal", "export", "command", "pipeline",
        ],
    },
    Wall {
        room: "workload",
        closed: &["probe", "request", "blame", "signal", "export", "command", "pipeline"],
    },
    Wall {
        room: "cgroup",
        closed: &["probe", "request", "blame", "signal", "export", "command", "pipeline"],
    },
    Wall { room: "gpu", closed: &["probe", "request", "blame", "signal", "export", "command", "pipeline"] },
    Wall {
        room: "engine",
        closed: &["probe", "request", "blame", "signal", "export", "command", "pipeline"],
    },
    Wall { room: "quality", closed: &["probe", "blame", "signal", "export", "command", "pipeline"] },
    Wall { room: "serving", closed: &["probe", "blame", "signal", "export", "command", "pipeline"] },
    Wall { room: "probe", closed: &["request", "blame", "signal", "export", "command", "pipeline"] },
    Wall { room: "request", closed: &["probe", "blame", "signal", "export", "command", "pipeline"] },
    Wall { room: "blame", closed: &["probe", "signal", "export", "command", "pipeline"] },
    Wall { room: "signal", closed: &["probe", "export", "command", "pipeline"] },
    Wall { room: "export", closed: &["probe", "command", "pipeline"] },
    Wall { room: "command", closed: &["pipeline"] },
];

/// Libraries that some rooms alone may touch.
const OWNED: [(&str, &[&str]); 4] = [
    ("aya", &["probe"]),
    ("nvml_wrapper", &["gpu"]),
    ("axum", &["export"]),
    ("hyper", &["export", "http_client"]),
];

struct Wall {
    room: &'static str,
    closed: &'static [&'static str],
}

/// # Errors
/// When a file breaks a rule, or cannot be read.
pub fn check(root: &Path) -> Result<()> {
    let mut breaches = Vec::new();
    for folder in CRATES {
        let package = root.join(folder);
        for part in ["src", "tests", "build.rs"] {
            for path in rust_files(&package.join(part))? {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                breaches.extend(breaches_of(&place, &text));
            }
        }
    }
    if !breaches.is_empty() {
        bail!("{} breaches:\n  {}", breaches.len(), breaches.join("\n  "));
    }
    Ok(())
}

fn breaches_of(place: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(format!("{place}: does not open with what it is (`//!`)"));
    }
    if is_test_file(place) {
        return found;
    }
    let code: Vec<&str> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    if code.len() > FILE_LINES_MAX {
        found.push(format!("{place}: {} lines, {FILE_LINES_MAX} are the wall", code.len()));
    }
    let Some((room, signal)) = room_of(place) else { return found };
    for (number, line) in code.iter().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        if let Some(why) = climbs(room, signal, line) {
            found.push(format!("{place}:{}: {why}: {}", number + 1, line.trim()));
        }
    }
    found
}

/// Tests beside their subject in a file of their own, or run against the whole: no wall is theirs.
fn is_test_file(place: &str) -> bool {
    let inside = place.split_once('/').map_or(place, |(_package, inside)| inside);
    inside.ends_with("tests.rs") || inside.split('/').any(|folder| folder == "tests")
}

/// `agent/src/signal/latency/mod.rs` is of the room `signal`, there of `latency`.
fn room_of(place: &str) -> Option<(&str, Option<&str>)> {
    let mut parts = place.strip_prefix("agent/src/")?.split('/');
    let room = parts.next()?.trim_end_matches(".rs");
    let below = parts.next().map(|part| part.trim_end_matches(".rs")).filter(|part| *part != "mod");
    Some((room, below.filter(|_| room == "signal")))
}

/// Why a line of a room's code is an arrow back up.
fn climbs(room: &str, signal: Option<&str>, line: &str) -> Option<String> {
    let wall = WALLS.iter().find(|wall| wall.room == room);
    let closed =
        wall.and_then(|wall| wall.closed.iter().find(|above| names(line, &format!("crate::{above}"))));
    if let Some(above) = closed {
        return Some(format!("{room} imports {above}"));
    }
    let owned = OWNED
        .iter()
        .find(|(library, owners)| !owners.contains(&room) && names(line, &format!("{library}::")));
    if let Some((library, owners)) = owned {
        return Some(format!("{library} is for {} alone", owners.join(", ")));
    }
    let (own, rest) = (signal?, line.split("crate::signal::").nth(1)?);
    let other = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
    let is_module = other.starts_with(char::is_lowercase) && other != own;
    is_module.then(|| format!("signal {own} imports signal {other}"))
}

/// Whether the line has this path as a whole word: `crate::probe`, not `crate::probed`; `aya::`, not `maya::`.
fn names(line: &str, path: &str) -> bool {
    let of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(path).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + path.len()..].chars().next());
        !before.is_some_and(of_word) && (path.ends_with("::") || !after.is_some_and(of_word))
    })
}

fn rust_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
            files.extend(rust_files(&entry.context("list sources")?.path())?);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_back_up_are_found() {
        let check = |place: &str, line: &str, breach: bool| {
            let found = breaches_of(place, &format!("//! A file.\n{line}\n"));
            assert_eq!(!found.is_empty(), breach, "{place}: {line}: {found:?}");
        };
        check("agent/src/request/http.rs", "use crate::signal::Signal;", true);
        check("agent/src/request/http.rs", "use crate::workload::Workload;", false);
        check("agent/src/request/http.rs", "use crate::probed::Thing;", false);
        check("agent/src/request/http.rs", "// unlike crate::signal", false);
        check("agent/src/signal/latency/mod.rs", "use crate::signal::stall::Account;", true);
        check("agent/src/signal/latency/mod.rs", "use crate::signal::latency::window::Window;", false);
        check("agent/src/signal/latency/mod.rs", "use crate::signal::{Signal, Tick};", false);
        check("agent/src/signal/latency.rs", "use crate::export::Page;", true);
        check("agent/src/workload/mod.rs", "let map = aya::maps::HashMap::new();", true);
        check("agent/src/probe/ring.rs", "use aya::maps::RingBuf;", false);
        check("agent/src/health.rs", "use axum::Router;", true);
        check("agent/src/export/http.rs", "use axum::Router;", false);
        check("agent/src/pipeline.rs", "use crate::probe::Probe;", false);
        check("xtask/src/main.rs", "use crate::signal::Signal;", false);
    }

    #[test]
    fn what_tests_import_is_theirs() {
        let text = "//! A file.\n#[cfg(test)]\nmod tests {\n    use crate::export::Page;\n}\n";
        assert_eq!(breaches_of("agent/src/signal/mod.rs", text), Vec::<String>::new());
        let text = "//! Tests.\nuse crate::export::Page;\n";
        for place in ["agent/src/signal/tests.rs", "agent/src/signal/tests/loss.rs", "agent/tests/cli.rs"] {
            assert_eq!(breaches_of(place, text), Vec::<String>::new());
        }
        assert_eq!(breaches_of("agent/src/signal/mod.rs", text).len(), 1);
    }

    #[test]
    fn long_files_and_files_without_an_opening_are_found() {
        let long = format!("//! A file.\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert_eq!(breaches_of("xtask/src/a.rs", &long).len(), 1);
        let tested = format!("//! A file.\n#[cfg(test)]\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert_eq!(breaches_of("xtask/src/a.rs", &tested).len(), 0);
        assert_eq!(breaches_of("xtask/src/a.rs", "fn main() {}\n").len(), 1);
    }
}
