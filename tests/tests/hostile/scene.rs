//! Agent, the demonstration server and a puppet that answers anything; and what must hold when a test is over.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::books::tick_over;
use inferscope_tests::client::Options;
use inferscope_tests::harness::{AgentProcess, ServerProcess, load_and_compare};
use inferscope_tests::oracle::{AgentRecord, fetch_records, http_get_as};
use inferscope_tests::page::{self, Format, Sample};
use inferscope_tests::skip;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, metrics_text, until};
use inferscope_tests::wire::Capture;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
const PUPPET: &str = env!("CARGO_BIN_EXE_inferscope-puppet-server");

/// Anonymous memory of the agent, whatever is done to it.
const AGENT_BYTES_MAX: u64 = 48 << 20;
/// What was begun is over in this time, or not at all.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// An answer comes in this time.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Requests of the ordinary load at the end.
const CONTROL_REQUESTS: usize = 60;

pub struct Scene {
    pub agent: AgentProcess,
    pub server: ServerProcess,
    puppet: ServerProcess,
    stage: Stage,
}

impl Scene {
    /// `None` where this machine cannot; the skip has been told.
    pub fn set() -> Option<Self> {
        let stage = Stage::set(SERVER).unwrap()?;
        if let Err(error) = Capture::start(9, stage.path()) {
            skip(&format!("{error:#}"));
            return None;
        }
        let answers = stage.path().join("answers");
        fs::create_dir(&answers).unwrap();
        let server = stage.start_server(&[]).unwrap();
        let mut puppet = Command::new(PUPPET);
        let puppet = puppet.args(["--listen", "127.0.0.1:0"]).arg("--answers").arg(&answers);
        let puppet = ServerProcess::start_command(puppet).unwrap();
        let folder = stage.path().display();
        let rule = format!("workload = [{{ name = \"demo\", command_regex = \"-server .*{folder}/\" }}]\n");
        let agent = stage.start_agent(&rule).unwrap();
        let follows = || agent.read_log().unwrap().contains(": following ").then_some(());
        assert!(until(SETTLE_MAX, follows).is_some(), "not followed: {}", agent.read_log().unwrap());
        Some(Self { agent, server, puppet, stage })
    }

    pub fn puppet_address(&self) -> SocketAddr {
        address(&self.puppet)
    }

    pub fn server_address(&self) -> SocketAddr {
        address(&self.server)
    }

    /// What the puppet answers to who asks for `name`.
    pub fn answer(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.answer_path(name), bytes).unwrap();
    }

    pub fn answer_len(&self, name: &str) -> u64 {
        fs::metadata(self.answer_path(name)).unwrap().len()
    }

    fn answer_path(&self, name: &str) -> PathBuf {
        self.stage.path().join("answers").join(name)
    }

    /// Waits until no request is under way, and the counters say what has been.
    pub fn settle(&self) {
        tick_over(self.agent.listen).unwrap();
        let at_rest = || (self.metric("vllm_requests_in_flight", &[]) == 0.0).then_some(());
        if at_rest().is_none() {
            assert!(until(SETTLE_MAX, at_rest).is_some(), "requests stay under way");
            tick_over(self.agent.listen).unwrap();
        }
    }

    /// Sum of a family's samples that have these labels.
    pub fn metric(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        self.samples(family).iter().filter(|sample| has(sample)).map(|sample| sample.value).sum()
    }

    pub fn samples(&self, family: &str) -> Vec<Sample> {
        let mut families = page::read(&metrics_text(&self.agent).unwrap(), Format::Text).unwrap();
        families.remove(family).map(|family| family.samples).unwrap_or_default()
    }

    pub fn outcomes(&self, outcome: &str) -> f64 {
        self.metric("vllm_request_outcomes_total", &[("outcome", outcome)])
    }

    pub fn records(&self) -> Vec<AgentRecord> {
        fetch_records(self.agent.listen, 0).unwrap()
    }

    /// Anonymous memory that the agent has now.
    pub fn agent_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.tgid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// It lives within its budget, its pages are right, and no event is unaccounted for.
    pub fn check_agent(&self) {
        let bytes = self.agent_bytes();
        println!("the agent has {:.1} MiB of anonymous memory", bytes as f64 / f64::from(1 << 20));
        assert!(bytes <= AGENT_BYTES_MAX, "the agent has {bytes} bytes of anonymous memory");
        let accept = "application/openmetrics-text;version=1.0.0";
        let text = http_get_as(&Endpoint::Tcp(self.agent.listen), "/metrics", accept).unwrap();
        page::read(&String::from_utf8(text).unwrap(), Format::OpenMetrics).unwrap();
        let stage = |stage| self.metric("inferscope_events_total", &[("stage", stage)]);
        let lost = self.metric("inferscope_events_lost_total", &[("stage", "socket_ring")]);
        assert_eq!(stage("socket_seen"), stage("socket_sent") + lost);
        assert_eq!(stage("socket_sent"), stage("socket_taken"));
    }

    /// The test is over: the agent is well, and what comes now is measured as if nothing had been.
    pub fn aftermath(self) {
        self.settle();
        self.check_agent();
        let options = Options {
            requests: CONTROL_REQUESTS,
            concurrency: 12,
            ..Options::new(self.server.endpoint.clone())
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let compared = load_and_compare(self.agent.listen, &options, self.stage.path());
        let comparison = runtime.block_on(compared).unwrap();
        assert!(comparison.passed, "{comparison}");
        self.agent.stop().unwrap();
        self.server.stop().unwrap();
        // It ends by the signal, as nobody taught it better.
        drop(self.puppet);
    }
}

fn address(server: &ServerProcess) -> SocketAddr {
    let Endpoint::Tcp(address) = server.endpoint else { panic!("the server listens on TCP") };
    address
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.set_write_timeout(Some(ANSWER_MAX)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A POST that the puppet answers with these files once it is all there.
pub fn post(path: &str, answer: &str, headers: &str, body: &str) -> String {
    let request = |after: usize| {
        format!(
            "POST {path}?answer={answer}&after={after:08} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    request(request(0).len())
}

/// Reads so many bytes and forgets them.
pub fn hear(stream: &mut TcpStream, bytes: u64) {
    let mut buffer = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = stream.read(&mut buffer[..room]).unwrap();
        assert!(length > 0, "{left} of {bytes} bytes of the answer are missing");
        left -= length as u64;
    }
}

/// Says that it is done, and reads to the end.
pub fn hear_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

/// Sends, and reads an answer of so many bytes.
pub fn ask(stream: &mut TcpStream, request: &[u8], bytes: u64) {
    stream.write_all(request).unwrap();
    hear(stream, bytes);
}
