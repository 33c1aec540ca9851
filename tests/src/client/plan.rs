//! Which requests are made, and in which manner: drawn from the seed before the first is sent.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;

use crate::fake_server::Script;

use super::prompt::{HEADER_CANARY, Prompt};

/// Requests of one run at most.
pub const REQUESTS_MAX: usize = 1_000_000;

/// Ends the id of requests whose times on the wire are the client's doing.
pub const SLOW_SUFFIX: &str = "-slow";

/// Kinds of requests, by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    ChatStream,
    ChatStreamUsage,
    ChatStreamContinuousUsage,
    ChatWhole,
    CompletionsStream,
    CompletionsWhole,
    ResponsesStream,
    ResponsesWhole,
    MessagesStream,
    MessagesWhole,
    Embeddings,
    LogprobsStream,
    LogprobsWhole,
    /// 300 KB and 1 MB.
    LargePrompt,
    HugePrompt,
    /// The client closes, resets or half-closes before the end.
    Close,
    Reset,
    HalfClose,
    /// As above, of a response that is no stream.
    CloseWhole,
    /// Two requests in one write.
    Pipelined,
    /// The client does not read for a while.
    SlowReader,
    /// The request comes in parts.
    Parts,
    Continue,
    /// A model that no server has.
    UnknownModel,
    Health,
    Metrics,
    Models,
}

impl Kind {
    const NAMES: [(&'static str, Self); 27] = [
        ("chat-stream", Self::ChatStream),
        ("chat-stream-usage", Self::ChatStreamUsage),
        ("chat-stream-continuous-usage", Self::ChatStreamContinuousUsage),
        ("chat-whole", Self::ChatWhole),
        ("completions-stream", Self::CompletionsStream),
        ("completions-whole", Self::CompletionsWhole),
        ("responses-stream", Self::ResponsesStream),
        ("responses-whole", Self::ResponsesWhole),
        ("messages-stream", Self::MessagesStream),
        ("messages-whole", Self::MessagesWhole),
        ("embeddings", Self::Embeddings),
        ("logprobs-stream", Self::LogprobsStream),
        ("logprobs-whole", Self::LogprobsWhole),
        ("large-prompt", Self::LargePrompt),
        ("huge-prompt", Self::HugePrompt),
        ("close", Self::Close),
        ("reset", Self::Reset),
        ("half-close", Self::HalfClose),
        ("close-whole", Self::CloseWhole),
        ("pipelined", Self::Pipelined),
        ("slow-reader", Self::SlowReader),
        ("parts", Self::Parts),
        ("continue", Self::Continue),
        ("unknown-model", Self::UnknownModel),
        ("health", Self::Health),
        ("metrics", Self::Metrics),
        ("models", Self::Models),
    ];

    fn path(self) -> &'static str {
        match self {
            Self::CompletionsStream | Self::CompletionsWhole => "/v1/completions",
            Self::ResponsesStream | Self::ResponsesWhole => "/v1/responses",
            Self::MessagesStream | Self::MessagesWhole => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
            Self::Health => "/health",
            Self::Metrics => "/metrics",
            Self::Models => "/v1/models",
            _ => "/v1/chat/completions",
        }
    }

    fn streams(self) -> bool {
        !matches!(
            self,
            Self::ChatWhole
                | Self::CompletionsWhole
                | Self::ResponsesWhole
                | Self::MessagesWhole
                | Self::Embeddings
                | Self::LogprobsWhole
                | Self::CloseWhole
        )
    }
}

/// Kinds with their weights, such as `chat-stream=5,close=1`, or the name of a ready-made one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(pub Vec<(Kind, u32)>);

impl Mix {
    fn draw(&self, rng: &mut Rng) -> Kind {
        let mut left = rng.u32(0..self.0.iter().map(|(_, weight)| weight).sum());
        for &(kind, weight) in &self.0 {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

/// What both front ends of the real server answer.
const REAL_RUST: &str = "chat-stream=4,chat-stream-usage=6,chat-stream-continuous-usage=1,chat-whole=4,\
    completions-stream=3,completions-whole=2,large-prompt=1,close=2,reset=1,half-close=1,close-whole=1,\
    pipelined=1,parts=1,continue=1,unknown-model=1,health=1,metrics=1,models=1";
/// What only the Python front end answers.
const REAL_MORE: &str = ",responses-stream=1,responses-whole=1,messages-stream=1,messages-whole=1";
const DEMO: &str = "chat-stream-usage=8,chat-stream=3,chat-whole=3,completions-stream=2,close=1,health=1";

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let every: Vec<_> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
        let text = match text {
            "demo" => DEMO.to_owned(),
            "real-rust" => REAL_RUST.to_owned(),
            "real" => format!("{REAL_RUST}{REAL_MORE}"),
            "all" => every.join(","),
            other => other.to_owned(),
        };
        let mut kinds = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let known = Kind::NAMES.iter().find(|(known, _)| *known == name);
            let Some(&(_, kind)) = known else {
                bail!("no kind of request is called {name}: {}", every.join(", "))
            };
            kinds.push((kind, weight.parse().with_context(|| format!("parse weight of {name}"))?));
        }
        if kinds.iter().all(|(_, weight)| *weight == 0) {
            bail!("every weight is 0");
        }
        Ok(Self(kinds))
    }
}

/// How the client leaves before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Close,
    Reset,
    HalfClose,
}

/// How a request is sent and its response read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Leaves this long after the request was sent.
    pub leave: Option<(Leave, Duration)>,
    /// Does not read for this long after the request was sent.
    pub looks_away: Duration,
    /// Parts that the request is cut into, and the time between them.
    pub parts: usize,
    pub part_gap: Duration,
    pub expects_continue: bool,
    /// Sent in one write with the request after it.
    pub with_next: bool,
    /// Needs a connection of its own.
    pub own_connection: bool,
}

/// One request to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub id: String,
    pub method: &'static str,
    pub path: &'static str,
    pub body: Prompt,
    pub manner: Manner,
    /// For a server that follows scripts.
    pub script: Option<Script>,
}

impl Planned {
    /// Head and body.
    #[must_use]
    pub fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let body = if self.method == "POST" { self.body.body(self.path) } else { Vec::new() };
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {HEADER_CANARY}\r\nx-request-id: {}\r\n",
            self.method, self.path, self.id
        );
        if let Some(script) = &self.script {
            head += &format!("x-script: {}\r\n", script.to_header());
        }
        if self.manner.expects_continue {
            head += "expect: 100-continue\r\n";
        }
        if self.method == "POST" {
            head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        ((head + "\r\n").into_bytes(), body)
    }
}

/// What plans are drawn from.
#[derive(Clone, Debug)]
pub struct Source {
    pub seed: u64,
    pub requests: usize,
    pub mix: Mix,
    pub models: Vec<String>,
    pub max_tokens: u32,
    pub prompt_bytes: usize,
    /// Sizes are these, and not drawn up to them.
    pub exact: bool,
    /// Names of scripts, one for each request in turn; none for a server without scripts.
    pub scenarios: Vec<String>,
}

/// All requests of a run, in order. A pair that is sent together is two of them.
#[must_use]
pub fn planned(source: &Source) -> Vec<Planned> {
    let mut rng = Rng::with_seed(source.seed);
    let run = rng.u32(..);
    let count = source.requests.min(REQUESTS_MAX);
    let mut plans: Vec<Planned> = Vec::with_capacity(count);
    while plans.len() < count {
        let index = plans.len();
        let mut next = one(source, &mut rng, index);
        let after_pair = plans.last().is_some_and(|before| before.manner.with_next);
        if after_pair {
            // The second of a pair follows plainly on the same connection.
            next.manner = Manner::default();
            (next.method, next.path) = ("POST", "/v1/chat/completions");
        } else if next.manner.with_next && index + 1 == count {
            next.manner.with_next = false;
        }
        next.id = format!("load-{run:08x}-{index:06}{}", if is_slow(&next) { SLOW_SUFFIX } else { "" });
        plans.push(next);
    }
    plans
}

/// The client does not read, or the server may hold little: the wire then shows when the client read,
/// not when the server wrote.
fn is_slow(planned: &Planned) -> bool {
    let little = planned.script.as_ref().is_some_and(|script| script.send_buffer_bytes.is_some());
    little || !planned.manner.looks_away.is_zero()
}

fn one(source: &Source, rng: &mut Rng, index: usize) -> Planned {
    let kind = source.mix.draw(rng);
    let get = matches!(kind, Kind::Health | Kind::Metrics | Kind::Models);
    let scenario = (!source.scenarios.is_empty()).then(|| &source.scenarios[index % source.scenarios.len()]);
    let script = scenario.filter(|_| !get).and_then(|name| crate::fake_server::scenario(name, rng.u64(..)));
    let model = rng.choice(&source.models).cloned().unwrap_or_default();
    Planned {
        id: String::new(),
        method: if get { "GET" } else { "POST" },
        path: kind.path(),
        body: Prompt {
            model: if kind == Kind::UnknownModel { "no-such-model".to_owned() } else { model },
            model_first: rng.bool(),
            bytes: match kind {
                Kind::LargePrompt => 300_000,
                Kind::HugePrompt => 1_000_000,
                _ if source.exact => source.prompt_bytes,
                _ => rng.usize(1..=source.prompt_bytes.max(1)),
            },
            max_tokens: if source.exact { source.max_tokens } else { rng.u32(1..=source.max_tokens.max(1)) },
            whole: source.exact,
            stream: kind.streams(),
            usage: matches!(
                kind,
                Kind::ChatStreamUsage | Kind::ChatStreamContinuousUsage | Kind::CompletionsStream
            ),
            continuous_usage: kind == Kind::ChatStreamContinuousUsage,
            logprobs: matches!(kind, Kind::LogprobsStream | Kind::LogprobsWhole),
        },
        manner: manner(kind, rng),
        script,
    }
}

fn manner(kind: Kind, rng: &mut Rng) -> Manner {
    let mut manner = Manner::default();
    let soon = Duration::from_micros(rng.u64(20_000..120_000));
    let leave = match kind {
        Kind::Close | Kind::CloseWhole => Some(Leave::Close),
        Kind::Reset => Some(Leave::Reset),
        Kind::HalfClose => Some(Leave::HalfClose),
        _ => None,
    };
    manner.leave = leave.map(|leave| (leave, soon));
    match kind {
        Kind::SlowReader => manner.looks_away = Duration::from_millis(300),
        Kind::Parts => (manner.parts, manner.part_gap) = (3, Duration::from_millis(15)),
        Kind::Continue => manner.expects_continue = true,
        Kind::Pipelined => manner.with_next = true,
        _ => {}
    }
    manner.own_connection = manner.leave.is_some() || kind == Kind::SlowReader;
    manner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(mix: &str) -> Source {
        Source {
            seed: 5,
            requests: 200,
            mix: mix.parse().unwrap(),
            models: vec!["m".to_owned()],
            max_tokens: 8,
            prompt_bytes: 100,
            exact: false,
            scenarios: Vec::new(),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let plans = planned(&source("all"));
        assert_eq!(plans.len(), 200);
        assert_eq!(plans, planned(&source("all")));
        let other = planned(&Source { seed: 6, ..source("all") });
        assert_ne!(plans, other);
    }

    #[test]
    fn exact_sizes_are_not_drawn() {
        let plans = planned(&Source { exact: true, ..source("chat-stream-usage") });
        assert!(plans.iter().all(|plan| (plan.body.bytes, plan.body.max_tokens) == (100, 8)));
        assert!(plans[0].body.body("/v1/completions").len() < planned(&source("large-prompt"))[0].body.bytes);
    }

    #[test]
    fn pairs_are_never_left_alone() {
        let plans = planned(&source("pipelined"));
        assert!(!plans.last().unwrap().manner.with_next);
        for pair in plans.windows(2).filter(|pair| pair[0].manner.with_next) {
            assert!(!pair[1].manner.with_next);
        }
    }

    #[test]
    fn unknown_kinds_are_refused_with_the_known_ones() {
        let error = "chat-streem=2".parse::<Mix>().unwrap_err().to_string();
        assert!(error.contains("chat-streem") && error.contains("chat-stream-usage"), "{error}");
    }
}
