//! `inferscope top` as an operator meets it: on a terminal, without one, and where nobody answers. Needs no root.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Longer than anything here takes, short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAVES_ALTERNATE_SCREEN: &str = "\u{1b}[?1049l";
const SHOWS_CURSOR: &str = "\u{1b}[?25h";

/// An agent's pages, served until the test's process ends.
fn agent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let router = Router::new()
            .route("/api/v1/latency", get(include_str!("../src/command/top/tests/pages/latency.json")))
            .route("/api/v1/stalls", get(include_str!("../src/command/top/tests/pages/stalls.json")))
            .route("/api/v1/slow", get(include_str!("../src/command/top/tests/pages/slow.json")))
            .route("/api/v1/agent", get(include_str!("../src/command/top/tests/pages/agent.json")))
            .route("/api/v1/workloads", get(include_str!("../src/command/top/tests/pages/workloads.json")))
            .route("/api/v1/gpus", get(include_str!("../src/command/top/tests/pages/gpus.json")))
            .route("/api/v1/quality", get(include_str!("../src/command/top/tests/pages/quality.json")));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    address
}

fn top(address: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferscope"));
    command.args(["top", "--url", &format!("http://{address}")]).env_clear().env("TERM", "xterm-256color");
    command
}

/// `top` on a terminal of 80x24.
struct OnTerminal {
    child: Child,
    /// The end of whoever sits before it.
    keyboard: OwnedFd,
    /// The terminal itself, to see its settings.
    terminal: File,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let (send, output) = channel();
        let mut screen = File::from(keyboard.try_clone().unwrap());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, terminal, output, seen: String::new() }
    }

    /// Waits until `text` came, from here on.
    fn shows(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let more = self.output.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("{text} did not come after {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.seen.clear();
        rustix::io::write(&self.keyboard, keys).unwrap();
    }

    fn receives(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for its end, after which the terminal is what it was.
    fn ends(mut self) -> ExitStatus {
        self.shows(LEAVES_ALTERNATE_SCREEN);
        let status = self.child.wait().unwrap();
        assert!(self.seen.contains(SHOWS_CURSOR), "{:?}", self.seen);
        assert!(!self.is_raw());
        status
    }
}

#[test]
fn a_terminal_is_taken_over_and_given_back_on_every_way_out() {
    let ways: [fn(&mut OnTerminal); 4] = [
        |top| top.press(b"q"),
        |top| top.press(&[3]),
        |top| top.receives(Signal::TERM),
        |top| top.receives(Signal::HUP),
    ];
    let address = agent();
    for leave in ways {
        let mut top = OnTerminal::start(top(address));
        top.shows("adapter-de");
        assert!(top.is_raw());
        leave(&mut top);
        let status = top.ends();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn keys_open_the_waterfall_and_help() {
    let mut top = OnTerminal::start(top(agent()));
    top.shows("adapter-de");
    top.press(b"\r");
    // Only cells that change are written: this stands where nothing like it stood.
    top.shows("Longest stalls");
    top.press(b"\x1b");
    top.shows("adapter-de");
    top.press(b"?");
    top.shows("memory_reclaim");
    top.press(b"q");
    assert!(top.ends().success());
}

#[test]
fn colours_are_off_where_no_color_is_set() {
    for (no_color, coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let mut command = top(agent());
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let mut top = OnTerminal::start(command);
        // What was lost stands above, in red.
        top.shows("adapter-de");
        assert_eq!(top.seen.contains("\u{1b}[31;49m"), coloured, "{:?}", top.seen);
        assert!(!top.seen.contains("38;5;"), "16 colours are enough: {:?}", top.seen);
        top.press(b"q");
        top.ends();
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do_and_ends_with_1() {
    let output = top(agent()).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("use `--once` for text or `--json` for scripts"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn nobody_there_ends_with_1_and_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for form in ["--once", "--json"] {
        let output = top(address).arg(form).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{error}");
        let expected = format!("inferscope: no answer of an agent from http://{address}: Connection refused");
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn once_is_text_and_json_is_json() {
    let address = agent();
    let written = |form| {
        let output = top(address).arg(form).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(written("--once"), include_str!("../src/command/top/tests/golden/once.txt"));
    let page: serde_json::Value = serde_json::from_str(&written("--json")).unwrap();
    assert_eq!(page["agent"]["node"], "gpu-node-7");
}
