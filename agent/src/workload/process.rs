//! Which processes are servers, and which role a process of one has: from the arguments alone.
//!
//! In: a command line. Out: [`Command`] of a server, [`Role`] of a process. Reads nothing.
//!
//! A server is known by the program that runs, not by words on its line: `sh -c 'vllm serve'`, `sudo vllm
//! serve`, `grep vllm serve` and an editor with such a file open run another program.

use memchr::memmem;

use super::{Role, ServerKind};

/// Every built-in server has one of these somewhere on its line; nearly nothing else has.
const NEEDLES: [&[u8]; 4] = [b"vllm", b"sglang", b"llama-server", b"ilab"];

/// What processes of a server call themselves, whatever follows: none of them is a server by itself.
const TITLES: [&str; 3] = ["VLLM::", "sglang::", "ray::"];

/// Programs that carry another's command line, or show it: never a server by themselves, whatever a
/// rule's expression finds there.
const CARRIERS: [&str; 60] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "fish",
    "busybox",
    "env",
    "sudo",
    "su",
    "doas",
    "runuser",
    "setpriv",
    "nohup",
    "setsid",
    "timeout",
    "time",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "numactl",
    "stdbuf",
    "strace",
    "ltrace",
    "gdb",
    "perf",
    "xargs",
    "watch",
    "grep",
    "egrep",
    "rg",
    "less",
    "more",
    "cat",
    "tail",
    "head",
    "vi",
    "vim",
    "nvim",
    "nano",
    "emacs",
    "ssh",
    "tmux",
    "screen",
    "podman",
    "docker",
    "nerdctl",
    "crictl",
    "kubectl",
    "oc",
    "conmon",
    "runc",
    "crun",
    "systemd-run",
    "tini",
    "dumb-init",
    "catatonit",
    "pgrep",
    "ps",
];

/// Options of the Python interpreter that take the next argument as their value.
const PYTHON_VALUES: [&str; 3] = ["-X", "-W", "--check-hash-based-pycs"];

/// What the command line of a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub kind: ServerKind,
    /// `--port`, where it is given.
    pub port: Option<u16>,
    /// `--uds`: it listens there and on no port.
    pub uds: Option<String>,
    /// `--config`: a file of further options.
    pub config: Option<String>,
}

/// Cheap first look: a line without any of the names cannot be a built-in server's.
#[must_use]
pub fn may_be_server(command: &[u8]) -> bool {
    NEEDLES.iter().any(|needle| memmem::find(command, needle).is_some())
}

/// The arguments of a command line as the kernel gives it.
#[must_use]
pub fn arguments(command: &[u8]) -> Vec<String> {
    // A title is padded with zeros over the line that it replaced.
    let end = command.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    command[..end].split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// The program carries or shows another's command line.
#[must_use]
pub fn is_carrier(arguments: &[String]) -> bool {
    arguments.first().is_none_or(|program| CARRIERS.contains(&base_name(program.trim_start_matches('-'))))
}

/// The server that these arguments start, if it is a built-in one.
#[must_use]
pub fn recognise(arguments: &[String]) -> Option<Command> {
    let title = arguments.first()?;
    if TITLES.iter().any(|begins| title.starts_with(begins)) {
        return None;
    }
    let (program, rest) = program(arguments)?;
    let kind = kind(program, rest)?;
    Some(Command {
        kind,
        port: option(rest, "--port").and_then(|port| port.parse().ok()),
        uds: option(rest, "--uds").map(str::to_owned),
        config: option(rest, "--config").map(str::to_owned),
    })
}

/// `--port` on the line of any program.
#[must_use]
pub fn port(arguments: &[String]) -> Option<u16> {
    option(arguments, "--port")?.parse().ok()
}

/// The role of a process below a server's first one. `None`: a helper (resource tracker, compiler, a
/// child that has not yet said what it is), watched and labelled but of no role.
#[must_use]
pub fn role(arguments: &[String]) -> Option<Role> {
    let title = arguments.first()?;
    if let Some(title) = title.strip_prefix("VLLM::") {
        return [("EngineCore", Role::Engine), ("APIServer", Role::Api), ("Worker", Role::Worker)]
            .into_iter()
            .find_map(|(name, role)| title.starts_with(name).then_some(role));
    }
    // SGLang's scheduler runs the model too, in one process for each GPU.
    if title.starts_with("sglang::scheduler") {
        return Some(Role::Engine);
    }
    if title.starts_with("ray::RayWorker") {
        return Some(Role::Worker);
    }
    let serves = base_name(title) == "vllm-rs" || recognise(arguments).is_some();
    serves.then_some(Role::Api)
}

#[derive(Clone, Copy)]
enum Program<'a> {
    /// The file that runs.
    File(&'a str),
    /// `python -m`.
    Module(&'a str),
}

/// What runs, past a Python interpreter, and its arguments.
fn program(arguments: &[String]) -> Option<(Program<'_>, &[String])> {
    let (first, mut rest) = arguments.split_first()?;
    let name = base_name(first);
    if !(name.starts_with("python") || name.starts_with("pypy")) {
        return Some((Program::File(first), rest));
    }
    loop {
        let (argument, after) = rest.split_first()?;
        rest = after;
        if PYTHON_VALUES.contains(&argument.as_str()) {
            rest = rest.get(1..)?;
        } else if !argument.starts_with('-') {
            return Some((Program::File(argument), rest));
        } else if !argument.starts_with("--") && argument.ends_with('m') {
            let (module, after) = rest.split_first()?;
            return Some((Program::Module(module), after));
        } else if argument == "-c" {
            return None;
        }
    }
}

fn kind(program: Program<'_>, rest: &[String]) -> Option<ServerKind> {
    let serve = rest.first().is_some_and(|command| command == "serve");
    match program {
        Program::File(path) => match base_name(path) {
            "vllm" if serve => Some(ServerKind::Vllm),
            "sglang" if serve => Some(ServerKind::Sglang),
            "llama-server" => Some(ServerKind::LlamaCpp),
            "ilab" if is_ilab_serve(rest) => Some(ServerKind::RhelAi),
            _ if path.ends_with("vllm/entrypoints/openai/api_server.py") => Some(ServerKind::Vllm),
            _ if path.ends_with("sglang/launch_server.py") => Some(ServerKind::Sglang),
            _ => None,
        },
        Program::Module("vllm.entrypoints.cli.main" | "vllm") => serve.then_some(ServerKind::Vllm),
        // `openai.api_server` and the plain `api_server`; not `openai.run_batch`, which serves nobody.
        Program::Module(module) if module.starts_with("vllm.entrypoints.") => {
            module.ends_with("api_server").then_some(ServerKind::Vllm)
        }
        Program::Module("sglang.launch_server") => Some(ServerKind::Sglang),
        Program::Module(_) => None,
    }
}

/// `ilab [OPTIONS] model serve`, or the older `ilab serve`.
fn is_ilab_serve(rest: &[String]) -> bool {
    let mut words = rest.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--config" => drop(words.next()),
            "serve" => return true,
            "model" => return words.next() == Some("serve"),
            option if option.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

/// Value of the last `--name VALUE` or `--name=VALUE`, as the servers' own parsers take it.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    (0..arguments.len()).rev().find_map(|at| match arguments[at].strip_prefix(name)? {
        "" => arguments.get(at + 1).map(String::as_str),
        value => value.strip_prefix('='),
    })
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        arguments(line.replace(' ', "\0").as_bytes())
    }

    fn check(line: &str, expected: Option<(ServerKind, Option<u16>)>) {
        let found = recognise(&split(line)).map(|command| (command.kind, command.port));
        assert_eq!(found, expected, "{line}");
        assert!(expected.is_none() || may_be_server(line.as_bytes()), "the first look misses {line}");
    }

    #[test]
    fn servers_are_known_by_the_program_that_runs() {
        use ServerKind::{LlamaCpp, RhelAi, Sglang, Vllm};
        for (line, kind, port) in [
            ("vllm serve m", Vllm, None),
            ("/opt/venv/bin/python /opt/venv/bin/vllm serve m --port 8123", Vllm, Some(8123)),
            ("python3.12 -u -X dev -W ignore /usr/local/bin/vllm serve m --port=81", Vllm, Some(81)),
            ("vllm serve m --port 1 --port 2", Vllm, Some(2)),
            ("vllm serve m --port", Vllm, None),
            ("vllm serve m --port 99999", Vllm, None),
            ("python3 -m vllm.entrypoints.openai.api_server --model m --port 9", Vllm, Some(9)),
            ("python3 -Im vllm.entrypoints.api_server", Vllm, None),
            ("python -m vllm.entrypoints.cli.main serve m", Vllm, None),
            ("python /src/vllm/entrypoints/openai/api_server.py --port 9", Vllm, Some(9)),
            ("python -m sglang.launch_server --model-path m", Sglang, None),
            ("python3 /usr/bin/sglang serve m --port 7", Sglang, Some(7)),
            ("/app/llama-server -m m.gguf --port 8081", LlamaCpp, Some(8081)),
            ("python3 /usr/bin/ilab model serve", RhelAi, None),
            ("ilab --config c.yaml -v model serve --model-path m", RhelAi, None),
            ("ilab serve", RhelAi, None),
        ] {
            check(line, Some((kind, port)));
        }
    }

    #[test]
    fn words_on_a_line_are_no_server() {
        for line in [
            "",
            "sh -c vllm serve m",
            "bash /usr/bin/ilab model serve",
            "sudo -u llm vllm serve m",
            "numactl -N 0 vllm serve m",
            "grep vllm serve",
            "tail -f vllm serve.log",
            "vim vllm",
            "podman run --rm image vllm serve m",
            "uv run vllm serve m",
            "/usr/bin/env python vllm serve m",
            "python -c from_multiprocessing.spawn vllm serve",
            "python",
            "python -X",
            "python3 bench.py vllm serve",
            "python -m pytest vllm serve",
            "python -m vllm.entrypoints.openai.run_batch",
            "python -m vllm.entrypoints.cli.main bench",
            "vllm bench serve",
            "vllm --version",
            "vllm chat serve",
            "vllm-server serve",
            "ilab model train",
            "ilab data generate serve",
            "llama-cli -m m.gguf",
            "VLLM::EngineCore",
            "VLLM::E/app/llama-server -m m.gguf",
        ] {
            check(line, None);
        }
    }

    #[test]
    fn other_options_of_a_server() {
        let command = recognise(&split("vllm serve m --uds=/run/v.sock --config c.yaml")).unwrap();
        assert_eq!(
            (command.uds.as_deref(), command.config.as_deref()),
            (Some("/run/v.sock"), Some("c.yaml"))
        );
        assert_eq!(port(&split("my-server --port 12")), Some(12));
        assert_eq!(port(&split("my-server --portal 12")), None);
    }

    #[test]
    fn roles_are_read_from_titles() {
        use Role::{Api, Engine, Worker};
        for (line, expected) in [
            ("VLLM::EngineCore", Some(Engine)),
            ("VLLM::EngineCore_DP0", Some(Engine)),
            ("VLLM::APIServer_0", Some(Api)),
            ("VLLM::Worker", Some(Worker)),
            ("VLLM::Worker_PP0_TP1", Some(Worker)),
            ("VLLM::DPCoordinator", None),
            ("vllm-rs", Some(Api)),
            ("/opt/bin/vllm-rs --listen-fd 4", Some(Api)),
            ("vllm serve m", Some(Api)),
            ("sglang::scheduler_TP0", Some(Engine)),
            ("sglang::detokenizer", None),
            ("ray::RayWorkerWrapper.execute_method", Some(Worker)),
            ("python -B -c from_multiprocessing.resource_tracker_import_main;main(32)", None),
            ("ptxas", None),
            ("", None),
        ] {
            assert_eq!(role(&split(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_title_ends_where_its_padding_begins() {
        assert_eq!(arguments(b"VLLM::Worker\0\0\0\0"), ["VLLM::Worker"]);
        assert_eq!(arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert_eq!(arguments(b"\0\0"), [""; 0]);
        assert_eq!(arguments(b"\xff\0"), ["\u{fffd}"]);
    }

    #[test]
    fn carriers_are_known_by_their_own_name() {
        for (line, expected) in [
            ("/bin/sh -c x", true),
            ("-bash", true),
            ("/usr/bin/sudo x", true),
            ("shell", false),
            ("python x", false),
            ("", true),
        ] {
            assert_eq!(is_carrier(&split(line)), expected, "{line}");
        }
    }
}
