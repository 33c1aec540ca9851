//! The whole path: a scripted server, load, and the agent, which must have measured what passed.
//!
//! Needs root, tcpdump, and the agent's binary: built beside this one, or named by `XTASK_AGENT`.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use inferscope_tests::books::Books;
use inferscope_tests::client::Options;
use inferscope_tests::fake_server::every_kind;
use inferscope_tests::harness::{AgentOptions, AgentProcess, ServerProcess, evidence, load_and_compare};
use inferscope_tests::machine::{concurrency, patient, requests, sockets};
use inferscope_tests::skip;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{self, until};
use inferscope_tests::wire::Capture;

/// A node has one agent.
static ONE_AGENT: Mutex<()> = Mutex::new(());

/// A server is followed within this time of its start.
const FOLLOWED_MAX: Duration = Duration::from_secs(10);
const LOAD_TIME_MAX: Duration = Duration::from_secs(60);
/// The agent promises to end within this time.
const END_MAX: Duration = Duration::from_secs(2);
const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

/// `None` where this machine cannot run these tests; the skip has been told.
fn agent_binary(folder: &Path) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skip("kernel programs need root");
        return None;
    }
    let binary = stage::agent_binary(SERVER)?;
    Capture::start(9, folder).map_err(|error| skip(&format!("{error:#}"))).ok()?;
    Some(binary)
}

fn agent_options(binary: PathBuf, folder: &Path) -> AgentOptions {
    AgentOptions {
        binary,
        workload: ("demo".to_owned(), "inferscope-demo-server".to_owned()),
        folder: folder.to_owned(),
    }
}

/// Server and agent, and a folder for what they leave.
struct Scene {
    folder: tempfile::TempDir,
    agent: AgentProcess,
    server: ServerProcess,
}

impl Scene {
    /// Starts both in the given order; says why not on a machine that cannot.
    fn start(listen: &str, agent_first: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let binary = agent_binary(folder.path())?;
        let listen = listen.replace("FOLDER", &folder.path().display().to_string()).parse().unwrap();
        let start_agent = || AgentProcess::start(&agent_options(binary, folder.path())).unwrap();
        let start_server = || ServerProcess::start(Path::new(SERVER), &listen, &[]).unwrap();
        let (agent, server) = if agent_first {
            let agent = start_agent();
            (agent, start_server())
        } else {
            let server = start_server();
            (start_agent(), server)
        };
        // The agent looks 20 times a second, and the demonstration server answers sooner.
        let says_so = || agent.read_log().unwrap().contains(": following ").then_some(());
        assert!(
            until(patient(FOLLOWED_MAX), says_so).is_some(),
            "not followed: {}",
            agent.read_log().unwrap()
        );
        Some(Self { folder, agent, server })
    }

    /// Makes load and demands that the agent has measured it as it passed.
    fn check(self, options: &Options) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let compared = load_and_compare(self.agent.listen, options, self.folder.path());
        let comparison = runtime.block_on(compared).unwrap();
        println!("{comparison}");
        let leaks = self.agent.leaks().unwrap();
        let took = self.agent.stop().unwrap();
        self.server.stop().unwrap();
        if !comparison.passed {
            panic!("{comparison}\ntruth and records are in {}", self.folder.keep().display());
        }
        assert_eq!(leaks, Vec::<String>::new());
        assert!(took < patient(END_MAX), "the agent took {took:?} to end");
    }
}

/// Everything at once.
fn everything(endpoint: Endpoint, count: usize) -> Options {
    Options {
        requests: requests(count),
        time_max: patient(LOAD_TIME_MAX),
        concurrency: concurrency(8),
        mix: "all".parse().unwrap(),
        scenarios: every_kind(),
        models: vec!["small".to_owned(), "large/model-7b".to_owned()],
        ..Options::new(endpoint)
    }
}

/// Everything at once on one kind of socket.
fn check_everything(listen: &str) {
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(scene) = Scene::start(listen, false) else { return };
    let options = everything(scene.server.endpoint.clone(), 400);
    scene.check(&options);
}

#[test]
fn requests_over_ipv4_are_measured_as_they_passed() {
    check_everything("127.0.0.1:0");
}

#[test]
fn requests_over_ipv6_are_measured_as_they_passed() {
    check_everything("[::1]:0");
}

#[test]
fn requests_over_a_unix_socket_are_measured_as_they_passed() {
    check_everything("unix:FOLDER/demo.sock");
}

/// A server may read while the kernel still tells that bytes came: then two processors are first at one socket.
#[test]
fn connections_over_a_unix_socket_that_ask_once_are_each_counted() {
    const CLIENTS: u64 = 2;
    const EACH: u64 = 10_000;
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(scene) = Scene::start("unix:FOLDER/demo.sock", false) else { return };
    let Endpoint::Unix(path) = &scene.server.endpoint else { panic!("{}", scene.server.endpoint) };
    let ask = || (0..EACH).for_each(|turn| ask_once(path, Duration::from_micros(turn % 50)));
    thread::scope(|clients| (0..CLIENTS).for_each(|_| _ = clients.spawn(ask)));
    let books = Books::settled(&scene.agent).unwrap();
    let counted = books.sum("inferscope_http_requests_total", &[("route", "/health")]);
    assert_eq!((counted, books.faults()), (CLIENTS * EACH, Vec::new()), "{books}");
    scene.agent.stop().unwrap();
    scene.server.stop().unwrap();
}

/// Asks on a connection of its own, so long after it was made: around when the server looks at it first.
fn ask_once(path: &Path, after: Duration) {
    let mut stream = UnixStream::connect(path).unwrap();
    let made = Instant::now();
    while made.elapsed() < after {
        std::hint::spin_loop();
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
}

#[test]
fn a_server_that_starts_after_the_agent_is_measured() {
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(scene) = Scene::start("127.0.0.1:0", true) else { return };
    let options = Options {
        requests: requests(200),
        time_max: patient(LOAD_TIME_MAX),
        ..Options::new(scene.server.endpoint.clone())
    };
    scene.check(&options);
}

/// What other kernels are tried with: a start of the agent is dear in an emulated machine.
#[test]
fn servers_on_every_kind_of_socket_are_measured_by_one_agent() {
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let Some(binary) = agent_binary(folder.path()) else { return };
    let kinds = [("ipv4", "127.0.0.1:0"), ("ipv6", "[::1]:0"), ("unix", "unix:FOLDER/demo.sock")];
    let agent = AgentProcess::start(&agent_options(binary, folder.path())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (kind, listen) in kinds.into_iter().filter(|(kind, _)| sockets(kind)) {
        let listen = listen.replace("FOLDER", &folder.path().display().to_string()).parse().unwrap();
        let server = ServerProcess::start(Path::new(SERVER), &listen, &[]).unwrap();
        let options = everything(server.endpoint.clone(), 100);
        let compared = load_and_compare(agent.listen, &options, folder.path());
        let comparison = runtime.block_on(compared).unwrap();
        if !comparison.passed {
            let evidence = evidence(&comparison, folder.path()).unwrap();
            let log = agent.read_log().unwrap();
            panic!(
                // What differs first: of an emulated machine only so many lines are shown.
                "{kind}\n{comparison}\n{evidence}\n{log}\ntruth and records are in {}",
                folder.keep().display()
            );
        }
        println!("{kind}\n{comparison}");
        server.stop().unwrap();
    }
    assert_eq!(agent.leaks().unwrap(), Vec::<String>::new());
    agent.stop().unwrap();
}
