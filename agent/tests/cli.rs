//! The binary as an operator meets it: arguments in, exit status and text out. Needs no root.
//!
//! What each command says in detail is tested beside it; here is what only the whole process can show.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// An operator waits no longer for a report.
const DOCTOR_WITHIN: Duration = Duration::from_secs(2);

/// Runs the binary with nothing in its environment.
fn inferscope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inferscope")).args(arguments).env_clear().output().unwrap()
}

/// Exit status, standard output and standard error.
fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = inferscope(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs `command` with a configuration of this text.
fn with_configuration(command: &str, text: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, text).unwrap();
    outcome(&[command, "--config", file.to_str().unwrap()])
}

#[test]
fn configuration_that_is_wrong_ends_with_2_and_one_line_that_names_the_key() {
    let rows = [
        ("export.listn = 1", "did you mean `export.listen`?"),
        ("[limits]\nmodels = 0", "`limits.models` is 0, outside 1 to 256"),
        ("[[workload]]\nname = \"a\"", "rule 1 of `workload`: it would match every process"),
        ("slo.p95_latency_target = \"2h\"", "`slo.p95_latency_target` is 7200s, outside 10µs to 3600s"),
    ];
    for (text, expected) in rows {
        // `run` ends there too, before it needs any right.
        for command in ["check", "run"] {
            let (status, out, error) = with_configuration(command, text);
            assert_eq!((status, out.as_str()), (2, ""), "{command} of {text}: {error}");
            assert!(error.starts_with("inferscope: configuration ") && error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

#[test]
fn configuration_that_is_right_is_printed_as_one() {
    let (status, out, error) = with_configuration("check", "workload = [{ name = \"a\", kind = \"vllm\" }]");
    assert_eq!((status, error.as_str()), (0, ""));
    assert!(out.contains("[[workload]]\nname = \"a\"\nkind = \"vllm\"\n"), "{out}");
    assert_eq!(with_configuration("check", &out).0, 0);
}

#[test]
fn doctor_writes_json_within_2_s_and_ends_with_the_status_it_names() {
    let began = Instant::now();
    let (status, out, error) = outcome(&["doctor", "--json"]);
    let took = began.elapsed();
    assert!(took < DOCTOR_WITHIN, "{took:?}");
    assert_eq!(error, "");
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(page["exit_code"], status);
    let names: Vec<&str> = page["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    for name in ["kernel", "load programs", "BTF", "lockdown", "agent", "servers"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(page["servers"].is_array());
}

#[test]
fn help_teaches_and_is_no_error() {
    let rows: [(&[&str], &[&str]); 5] = [
        (&["--help"], &["Examples:", "inferscope doctor", "INFERSCOPE_<SECTION>_<KEY>", "Exit status:"]),
        (&["run", "--help"], &["Examples:", "sudo inferscope run", "SIGHUP", "--listen"]),
        (&["check", "--help"], &["Examples:", "--config"]),
        (
            &["help", "top"],
            &["Examples:", "--url http://gpu-7:9940", "Keys:", "Exit status:", "export.listen"],
        ),
        (&["doctor", "--help"], &["Exit status", "  13  the kernel takes no program at what sockets"]),
    ];
    for (arguments, expected) in rows {
        let (status, out, error) = outcome(arguments);
        assert_eq!((status, error.as_str()), (0, ""), "{arguments:?}");
        for text in expected {
            assert!(out.contains(text), "{text} is not in:\n{out}");
        }
    }
}

#[test]
fn arguments_that_are_not_understood_end_with_2() {
    for arguments in [&[][..], &["rnu"], &["doctor", "--xml"]] {
        let (status, out, error) = outcome(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(error.contains("Usage:"), "{error}");
    }
    for (arguments, expected) in [
        (["top", "--url", "ftp://gpu-7"], "only http:// and https:// are understood"),
        (["top", "--url", "http://gpu-7:99999"], "expected http://HOST:PORT"),
        (["top", "--interval", "0s"], "outside 200ms to 1h"),
        (["top", "--interval", "1"], "time unit needed"),
    ] {
        let (status, out, error) = outcome(&arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(error.contains(expected), "{error}");
    }
}
