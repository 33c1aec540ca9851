//! From a script to the steps of one response: each write, piece by piece, and each wait.

use std::time::Duration;

use bytes::Bytes;

use super::event::{Event, Events, error_body, events, whole_body};
use super::{Ask, Ending, Framing, FrontEnd, Script};

/// One step of a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Wait(Duration),
    /// One system call, unless the client is slow.
    Write {
        pieces: Vec<Bytes>,
        /// Events with a delta that this write completes.
        deltas: u32,
    },
    /// Ends the connection.
    Close {
        reset: bool,
    },
}

/// A response, ready to be played.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The connection serves no further request.
    pub closes: bool,
}

impl Plan {
    fn wait(&mut self, us: u64) {
        if us > 0 {
            self.steps.push(Step::Wait(Duration::from_micros(us)));
        }
    }

    fn write(&mut self, pieces: Vec<Bytes>, deltas: u32) {
        self.steps.push(Step::Write { pieces, deltas });
    }

    /// All bytes that it writes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let pieces = self.steps.iter().filter_map(|step| match step {
            Step::Write { pieces, .. } => Some(pieces.concat()),
            _ => None,
        });
        pieces.collect::<Vec<_>>().concat()
    }
}

/// The steps that answer `ask` as `script` says.
#[must_use]
pub fn plan(script: &Script, ask: &Ask) -> Plan {
    let mut plan = Plan { steps: Vec::new(), closes: script.close };
    plan.wait(script.head_after_us);
    if script.status >= 300 {
        whole(&mut plan, script, &error_body(script.status));
    } else if ask.stream && ask.route.is_streamed() {
        stream(&mut plan, script, events(script, ask));
    } else {
        whole(&mut plan, script, &whole_body(script, ask));
    }
    cut_off(&mut plan, script.ending);
    plan
}

/// A response at once, for routes without a script.
#[must_use]
pub fn at_once(status: u16, content_type: &str, body: Vec<u8>) -> Plan {
    let mut plan = Plan::default();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {}\r\ndate: {DATE}\r\nserver: demo\r\ncontent-length: {length}\r\ncontent-type: {content_type}\r\n\r\n",
        reason(status)
    );
    plan.write(vec![Bytes::from(head), Bytes::from(body)], 0);
    plan
}

/// Any date of the right length: the bytes of a script are the same in every run.
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        413 => "Payload Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

fn head(script: &Script, rest: &str) -> Bytes {
    let server = if script.front_end == FrontEnd::Python { "server: uvicorn\r\n" } else { "" };
    let close = if script.close { "connection: close\r\n" } else { "" };
    let status = script.status;
    Bytes::from(format!("HTTP/1.1 {status} {}\r\ndate: {DATE}\r\n{server}{rest}{close}\r\n", reason(status)))
}

fn whole(plan: &mut Plan, script: &Script, body: &[u8]) {
    let framing = match script.framing {
        Framing::Length => format!("content-length: {}\r\n", body.len()),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Close => {
            plan.closes = true;
            "connection: close\r\n".to_owned()
        }
    };
    let head = head(script, &format!("content-type: application/json\r\n{framing}"));
    let size = body.len().div_ceil(script.body_writes as usize).max(1);
    let mut parts: Vec<Vec<Bytes>> = body.chunks(size).map(|part| body_pieces(script, part)).collect();
    if script.framing == Framing::Chunked {
        parts.push(vec![Bytes::from_static(b"0\r\n\r\n")]);
    }
    if script.front_end == FrontEnd::Rust && !parts.is_empty() {
        parts[0].insert(0, head);
    } else {
        plan.write(vec![head], 0);
        plan.wait(script.first_after_us);
    }
    for part in parts {
        plan.write(part, 0);
    }
}

fn body_pieces(script: &Script, part: &[u8]) -> Vec<Bytes> {
    let part = Bytes::copy_from_slice(part);
    match script.framing {
        Framing::Chunked => {
            vec![Bytes::from(format!("{:x}\r\n", part.len())), part, Bytes::from_static(b"\r\n")]
        }
        _ => vec![part],
    }
}

fn stream(plan: &mut Plan, script: &Script, events: Events) {
    let kind = "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n";
    plan.write(vec![head(script, kind)], 0);
    plan.wait(script.first_after_us);
    let size = script.events_per_write as usize;
    let mut groups: Vec<Vec<Event>> = events.deltas.chunks(size).map(<[Event]>::to_vec).collect();
    match script.front_end {
        FrontEnd::Python => {
            for event in events.opening {
                write_events(plan, script, &[event], &[]);
            }
            write_groups(plan, script, &groups, &[]);
            for event in events.closing {
                write_events(plan, script, &[event], &[]);
            }
            plan.write(vec![Bytes::from_static(LAST_CHUNK)], 0);
        }
        FrontEnd::Rust => {
            // The opening goes with the first group, the closing and the last chunk with the last.
            if groups.is_empty() {
                groups.push(Vec::new());
            }
            groups[0].splice(0..0, events.opening);
            let last = groups.len() - 1;
            groups[last].extend(events.closing);
            write_groups(plan, script, &groups, LAST_CHUNK);
        }
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes each group; `end` goes with the last.
fn write_groups(plan: &mut Plan, script: &Script, groups: &[Vec<Event>], end: &'static [u8]) {
    for (index, group) in groups.iter().enumerate() {
        plan.wait(script.gap_us(index));
        let comments = script.comment_every as usize;
        if comments > 0 && index % comments == 0 {
            let ping = Event { text: ": ping\n\n".to_owned(), delta: false };
            write_events(plan, script, &[ping], &[]);
        }
        let end = if index + 1 == groups.len() { end } else { &[] };
        if script.writes_per_group > 1 {
            write_cut(plan, script, group, end);
        } else {
            write_events(plan, script, group, end);
        }
    }
}

fn write_events(plan: &mut Plan, script: &Script, events: &[Event], end: &'static [u8]) {
    let mut pieces: Vec<Bytes> = events.iter().flat_map(chunk_pieces).collect();
    if !end.is_empty() {
        pieces.push(Bytes::from_static(end));
    }
    if script.front_end == FrontEnd::Python {
        pieces = vec![Bytes::from(pieces.concat())];
    }
    let deltas = events.iter().filter(|event| event.delta).count();
    plan.write(pieces, u32::try_from(deltas).unwrap_or(u32::MAX));
}

fn chunk_pieces(event: &Event) -> [Bytes; 3] {
    let size = Bytes::from(format!("{:x}\r\n", event.text.len()));
    [size, Bytes::copy_from_slice(event.text.as_bytes()), Bytes::from_static(b"\r\n")]
}

/// Writes one group in several parts, cut at places that mean nothing.
fn write_cut(plan: &mut Plan, script: &Script, events: &[Event], end: &'static [u8]) {
    let mut bytes = Vec::new();
    let mut completions = Vec::new();
    for event in events {
        let pieces = chunk_pieces(event);
        bytes.extend_from_slice(&pieces.concat());
        if event.delta {
            // The event is whole with its empty line, before the line end of its chunk.
            completions.push(bytes.len() - 2);
        }
    }
    bytes.extend_from_slice(end);
    let size = bytes.len().div_ceil(script.writes_per_group as usize).max(1);
    for (index, part) in bytes.chunks(size).enumerate() {
        if index > 0 {
            plan.wait(script.cut_us);
        }
        let range = index * size + 1..=index * size + part.len();
        let deltas = completions.iter().filter(|end| range.contains(end)).count();
        plan.write(vec![Bytes::copy_from_slice(part)], u32::try_from(deltas).unwrap_or(u32::MAX));
    }
}

fn cut_off(plan: &mut Plan, ending: Ending) {
    let (writes, reset) = match ending {
        Ending::CloseAfter(writes) => (writes, false),
        Ending::ResetAfter(writes) => (writes, true),
        Ending::Complete | Ending::ErrorEvent => return,
    };
    let mut left = writes;
    let keep = plan.steps.iter().position(|step| {
        if matches!(step, Step::Write { .. }) {
            if left == 0 {
                return true;
            }
            left -= 1;
        }
        false
    });
    // A response that is whole by then stays so.
    if let Some(keep) = keep {
        plan.closes = true;
        plan.steps.truncate(keep);
        plan.steps.push(Step::Close { reset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::Route;
    use crate::transcript::{Track, exchanges};

    fn ask(stream: bool) -> Ask {
        Ask {
            route: Route::Chat,
            model: "m".to_owned(),
            stream,
            usage: true,
            continuous_usage: false,
            logprobs: false,
            prompt_tokens: 9,
            response_number: 1,
        }
    }

    fn writes(plan: &Plan) -> Vec<(usize, u32)> {
        let writes = plan.steps.iter().filter_map(|step| match step {
            Step::Write { pieces, deltas } => Some((pieces.len(), *deltas)),
            _ => None,
        });
        writes.collect()
    }

    #[test]
    fn python_writes_once_per_event() {
        let script = Script { content: 2, ..Script::default() };
        // Head, role, two deltas, usage, done, last chunk.
        assert_eq!(
            writes(&plan(&script, &ask(true))),
            [(1, 0), (1, 0), (1, 1), (1, 1), (1, 0), (1, 0), (1, 0)]
        );
    }

    #[test]
    fn rust_writes_three_pieces_an_event_and_the_ends_together() {
        let script = Script {
            front_end: FrontEnd::Rust,
            content: 32,
            events_per_write: 16,
            role_first: false,
            ..Script::default()
        };
        // Head; 16 events; 16 events, finish, usage, done and the last chunk.
        assert_eq!(writes(&plan(&script, &ask(true))), [(1, 0), (48, 16), (48 + 9 + 1, 16)]);
    }

    #[test]
    fn a_cut_group_counts_where_its_event_is_whole() {
        let script = Script { content: 1, writes_per_group: 3, role_first: false, ..Script::default() };
        let plan = plan(&script, &ask(true));
        assert_eq!(writes(&plan)[1..4], [(1, 0), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_whole_body_has_the_asked_size() {
        for bytes in [1_000, 10_000_000] {
            let script = Script { body_bytes: bytes, ..Script::default() };
            assert_eq!(whole_body(&script, &ask(false)).len(), bytes);
        }
    }

    #[test]
    fn text_repeated_at_the_end_is_no_delta() {
        for (route, opening) in [(Route::Responses, 4), (Route::Messages, 2)] {
            let plan = plan(&Script { content: 3, ..Script::default() }, &Ask { route, ..ask(true) });
            let (mut requests, mut responses) = (Track::default(), Track::default());
            requests.push(1, b"POST /v1/responses HTTP/1.1\r\n\r\n");
            responses.push(2, &plan.bytes());
            let found = exchanges(&requests, &responses).unwrap();
            assert_eq!(found[0].deltas_ns.len(), 3);
            assert_eq!(found[0].completion_tokens, Some(3));
            // The head and the opening events come before.
            assert_eq!(writes(&plan).iter().position(|(_, deltas)| *deltas > 0), Some(1 + opening));
        }
    }

    #[test]
    fn every_scenario_reads_back_as_scripted() {
        for (name, _) in crate::fake_server::SCENARIOS {
            let script = crate::fake_server::scenario(name, 7).unwrap();
            let plan = plan(&script, &ask(true));
            let (mut requests, mut responses) = (Track::default(), Track::default());
            requests.push(1, b"POST /v1/chat/completions HTTP/1.1\r\n\r\n");
            responses.push(2, &plan.bytes());
            if plan.closes {
                responses.close(crate::transcript::Closed { at: 3, reset: false });
            }
            let found = exchanges(&requests, &responses).unwrap();
            let completed: u32 = writes(&plan).iter().map(|(_, deltas)| deltas).sum();
            assert_eq!(found[0].deltas_ns.len(), completed as usize, "{name}");
        }
    }
}
