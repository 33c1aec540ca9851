//! Does a host take the agent? Its C library the binary, systemd the unit; and how much does that leave open?
//!
//! Needs the agent's binary, and `systemd-analyze`, as machines with systemd have it.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use inferscope_tests::skip;
use inferscope_tests::stage::agent_binary;

/// The most that `systemd-analyze security` may say, in tenths: 0 leaves nothing open, 10 everything. What is left is what measuring
/// takes: four capabilities, the nodes of GPUs, and the host's processes and networks in sight.
const EXPOSURE_MAX: &str = "25";

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
const UNIT: &str = "inferscope.service";
/// That of RHEL 9.
const GLIBC: u32 = 34;

#[test]
fn the_binary_needs_no_newer_c_library_than_the_oldest_host_has() {
    let Some(agent) = agent_binary(SERVER) else { return };
    let bytes = std::fs::read(agent).unwrap();
    // Names of versions that it needs stand among the names of its symbols.
    let name = b"GLIBC_2.";
    let places = (0..bytes.len().saturating_sub(name.len())).filter(|at| bytes[*at..].starts_with(name));
    let minor = |at: usize| {
        let digits =
            bytes[at + name.len()..].iter().take_while(|byte| byte.is_ascii_digit()).copied().collect();
        String::from_utf8(digits).unwrap().parse().ok()
    };
    let needed: BTreeSet<u32> = places.filter_map(minor).collect();
    assert!(needed.last().is_some_and(|newest| *newest <= GLIBC), "glibc 2.{needed:?}");
}

/// What systemd says of a unit below `deploy`, or of one with another line.
fn analyze(unit: &str, arguments: &[&str], change: impl Fn(String) -> String) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(unit);
    let copy = folder.path().join(shipped.file_name().unwrap());
    // The programs need not be installed; any other that is stands for them.
    let text = std::fs::read_to_string(shipped).unwrap();
    let text = text.replace("/usr/bin/inferscope", "/bin/true");
    let text = text.replace("/opt/inferscope-remediation/bin/ansible-rulebook", "/bin/true");
    std::fs::write(&copy, change(text)).unwrap();
    let output = Command::new("systemd-analyze").args(arguments).arg(&copy).output();
    if output.is_err() {
        skip("there is no systemd-analyze");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    let verify = &["verify", "--man=no"];
    for unit in [UNIT, "remediation/inferscope-remediation.service"] {
        let Some(output) = analyze(unit, verify, |text| text) else { return };
        let said_of_unit = said(&output);
        assert!(output.status.success() && !said_of_unit.contains("inferscope"), "{said_of_unit}");
    }
    // That it can fail.
    let wrong = analyze(UNIT, verify, |text| text.replace("Type=notify", "Type=tells")).unwrap();
    assert!(said(&wrong).contains("inferscope.service"), "{}", said(&wrong));
}

#[test]
fn the_unit_leaves_little_open() {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let security = &["security", "--offline=true", &threshold];
    let Some(output) = analyze(UNIT, security, |text| text) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let open = analyze(UNIT, security, |text| {
        text.replace("NoNewPrivileges=yes", "")
            .replace("Restrict", "#Restrict")
            .replace("Protect", "#Protect")
    });
    assert!(!open.unwrap().status.success());
}
