//! Requests and their responses, found in the two tracks of a connection.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    Body, BodyReader, Closed, Framing, Meaning, RequestHead, ResponseHead, Track, event_meaning,
    is_inference, request_head, response_head, whole_meaning,
};

/// How a request ended, in the words of the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    ClientError,
    Rejected,
    ServerError,
    ClientAbort,
    ServerReset,
    /// Neither complete nor closed when the transcript ended: the agent has no record of it yet.
    Open,
}

/// One request and its response. Times are nanoseconds on the clock of its transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    pub request_id: Option<String>,
    pub response_id: Option<String>,
    pub method: String,
    pub path: String,
    /// The response's, else the request's.
    pub model: Option<String>,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub streamed: bool,
    /// First byte of the request.
    pub started_ns: u64,
    /// The server's first read; only where the server says so.
    #[serde(default)]
    pub first_read_ns: Option<u64>,
    /// The server noticed that the client had gone; only where it says so.
    #[serde(default)]
    pub noticed_ns: Option<u64>,
    /// Last byte of the response, or the end of the connection that cut it off.
    pub ended_ns: u64,
    /// When each event with a delta was whole; events that came in one part have one time.
    pub deltas_ns: Vec<u64>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub finish: Vec<String>,
    /// Geometric mean probability of its tokens.
    pub confidence: Option<f64>,
    /// A whole 2xx answer without any result.
    pub empty: bool,
    /// The client left while the last bytes were written: a good answer and an abort are both right.
    #[serde(default)]
    pub undecided: bool,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

impl Exchange {
    /// A request in latency.
    #[must_use]
    pub fn is_inference(&self) -> bool {
        self.method == "POST" && is_inference(&self.path)
    }

    /// First byte to last.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.ended_ns.saturating_sub(self.started_ns)
    }

    /// Time to the first event with a delta.
    #[must_use]
    pub fn ttft_ns(&self) -> Option<u64> {
        Some(self.deltas_ns.first()?.saturating_sub(self.started_ns))
    }

    /// Times between parts that complete an event with a delta.
    #[must_use]
    pub fn gaps_ns(&self) -> Vec<u64> {
        let mut times = self.deltas_ns.clone();
        times.dedup();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
    }
}

/// Finds the requests of a connection and what answered them, in order.
///
/// # Errors
///
/// Where a direction is no HTTP/1.
pub fn exchanges(requests: &Track, responses: &Track) -> Result<Vec<Exchange>> {
    let mut found = Vec::new();
    let mut responses_at = 0;
    let mut requests_at = 0;
    while let Some(asked) = next_request(requests, requests_at)? {
        requests_at = asked.end;
        if never_reached(&asked, requests, responses) {
            break;
        }
        let answer = next_response(requests, responses, responses_at)?;
        responses_at = answer.as_ref().map_or(responses_at, |answer| answer.end);
        found.push(join(&asked, answer.as_ref(), requests, responses));
    }
    Ok(found)
}

/// Sent to a server that had closed already: no server ever saw it.
fn never_reached(asked: &Asked, requests: &Track, responses: &Track) -> bool {
    let started = requests.time_of(asked.start);
    started.zip(responses.closed).is_some_and(|(started, closed)| started >= closed.at)
}

/// The one field of a request that matters; the prompt, which may be long, is passed over.
#[derive(Deserialize)]
struct Named {
    model: Option<String>,
}

struct Asked {
    head: RequestHead,
    start: usize,
    end: usize,
    model: Option<String>,
}

fn next_request(track: &Track, start: usize) -> Result<Option<Asked>> {
    let rest = &track.bytes[start..];
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(head) = request_head(rest)? else { return Ok(None) };
    let mut reader = BodyReader::new(head.framing, start + head.length);
    reader.advance(&track.bytes).context("read request body")?;
    let model = serde_json::from_slice::<Named>(&reader.body.bytes).ok().and_then(|body| body.model);
    Ok(Some(Asked { head, start, end: reader.position, model }))
}

struct Answer {
    head: ResponseHead,
    start: usize,
    end: usize,
    whole: bool,
    body: Body,
}

fn next_response(requests: &Track, track: &Track, mut start: usize) -> Result<Option<Answer>> {
    loop {
        let rest = &track.bytes[start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let Some(head) = response_head(rest)? else { return Ok(None) };
        if head.status >= 200 {
            return read_answer(requests, track, start, head).map(Some);
        }
        start += head.length;
    }
}

fn read_answer(requests: &Track, track: &Track, start: usize, head: ResponseHead) -> Result<Answer> {
    let mut reader = BodyReader::new(head.framing, start + head.length);
    let mut whole = reader.advance(&track.bytes).context("read response body")?;
    if head.framing == Framing::UntilClose {
        // Where the client closes first, the server may only follow it.
        let left = |closed: Closed| requests.closed.is_some_and(|client| client.at <= closed.at);
        whole = track.closed.is_some_and(|closed| !closed.reset && !left(closed));
    }
    // Of a chunk that was cut, the raw bytes still passed.
    let end = if whole { reader.position } else { track.bytes.len() };
    Ok(Answer { head, start, end, whole, body: reader.body })
}

fn join(asked: &Asked, answer: Option<&Answer>, requests: &Track, responses: &Track) -> Exchange {
    let mut said = answer.map_or_else(Said::default, |answer| Said::of(answer, responses));
    let (outcome, ended_ns) = ending(answer, said.meaning.error, requests, responses);
    if outcome == Outcome::ClientAbort {
        // What the server wrote before it noticed belongs to nobody.
        said.deltas_ns.retain(|at| *at <= ended_ns);
    }
    let ok = outcome == Outcome::Ok && answer.is_some_and(|answer| answer.head.status < 300);
    let inference = asked.head.method == "POST" && is_inference(&asked.head.path);
    Exchange {
        request_id: asked.head.request_id.clone(),
        response_id: said.meaning.id,
        method: asked.head.method.clone(),
        path: asked.head.path.clone(),
        model: said.meaning.model.or_else(|| asked.model.clone()),
        status: answer.map(|answer| answer.head.status),
        outcome,
        streamed: answer.is_some_and(|answer| answer.head.event_stream),
        started_ns: requests.time_of(asked.start).unwrap_or_default(),
        first_read_ns: None,
        noticed_ns: None,
        ended_ns,
        empty: inference && ok && !said.meaning.delta,
        undecided: outcome != Outcome::ClientAbort && left_before(answer, requests, responses),
        deltas_ns: said.deltas_ns,
        prompt_tokens: said.meaning.usage.map(|(prompt, _)| prompt),
        completion_tokens: said.meaning.usage.map(|(_, completion)| completion),
        finish: said.meaning.finish,
        confidence: confidence(&said.meaning.logprobs),
        request_bytes: (asked.end - asked.start) as u64,
        response_bytes: answer.map_or(0, |answer| (answer.end - answer.start) as u64),
    }
}

fn confidence(logprobs: &[f64]) -> Option<f64> {
    let count = logprobs.len();
    (count > 0).then(|| (logprobs.iter().sum::<f64>() / count as f64).exp())
}

/// The client had closed, not half-closed, before the last byte of a response that is whole all the same.
fn left_before(answer: Option<&Answer>, requests: &Track, responses: &Track) -> bool {
    let last = answer.and_then(|answer| responses.time_before(answer.end));
    let closed = requests.closed.filter(|_| requests.was_reset);
    closed.zip(last).is_some_and(|(closed, last)| closed.at < last)
}

/// Outcome and time of the end.
fn ending(answer: Option<&Answer>, error: bool, requests: &Track, responses: &Track) -> (Outcome, u64) {
    if let Some(answer) = answer.filter(|answer| answer.whole) {
        let outcome = match answer.head.status {
            429 => Outcome::Rejected,
            400..500 => Outcome::ClientError,
            500.. => Outcome::ServerError,
            _ if error => Outcome::ServerError,
            _ => Outcome::Ok,
        };
        return (outcome, responses.time_before(answer.end).unwrap_or_default());
    }
    match (requests.closed, responses.closed) {
        (Some(client), Some(server)) if server.at < client.at => (Outcome::ServerReset, server.at),
        (Some(Closed { at, .. }), _) => (Outcome::ClientAbort, at),
        (None, Some(Closed { at, .. })) => (Outcome::ServerReset, at),
        (None, None) => (Outcome::Open, 0),
    }
}

/// What the body of a response says, all events together.
#[derive(Default)]
struct Said {
    meaning: Meaning,
    deltas_ns: Vec<u64>,
}

impl Said {
    fn of(answer: &Answer, track: &Track) -> Self {
        if !answer.head.event_stream {
            return Self { meaning: whole_meaning(&answer.body.bytes), deltas_ns: Vec::new() };
        }
        let mut said = Self::default();
        for (data, end) in events(&answer.body.bytes) {
            let meaning = event_meaning(&data);
            if meaning.delta {
                let at = track.time_of(answer.body.raw_offset(end - 1));
                said.deltas_ns.push(at.expect("a byte of the body has a time"));
            }
            said.add(meaning);
        }
        said
    }

    fn add(&mut self, next: Meaning) {
        let sum = &mut self.meaning;
        sum.delta |= next.delta;
        sum.error |= next.error;
        sum.model = sum.model.take().or(next.model);
        sum.id = sum.id.take().or(next.id);
        // `/v1/messages` says the prompt's tokens first and the completion's last.
        sum.usage = match (sum.usage, next.usage) {
            (Some((0, _)) | None, Some(usage)) => Some(usage),
            (Some((prompt, _)), Some((_, completion))) => Some((prompt, completion)),
            (before, None) => before,
        };
        sum.finish.extend(next.finish);
        sum.logprobs.extend(next.logprobs);
    }
}

/// Data of each whole event, and the offset after the empty line that completes it.
fn events(body: &[u8]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut data: Vec<String> = Vec::new();
    let mut start = 0;
    while let Some(length) = body[start..].iter().position(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(&body[start..start + length]);
        let line = line.trim_end_matches('\r');
        start += length + 1;
        if line.is_empty() {
            if !data.is_empty() {
                found.push((data.join("\n"), start));
                data.clear();
            }
        } else if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nx-request-id: r1\r\ncontent-length: 13\r\n\r\n{\"model\":\"m\"}";
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

    fn chunk(data: &str) -> Vec<u8> {
        format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
    }

    fn asked() -> Track {
        let mut requests = Track::default();
        requests.push(100, &ASK[..30]);
        requests.push(120, &ASK[30..]);
        requests
    }

    fn delta(text: &str) -> String {
        format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    }

    #[test]
    fn a_stream_has_its_times() {
        let mut responses = Track::default();
        responses.push(200, HEAD);
        responses.push(210, &chunk(&delta("")));
        responses.push(220, &chunk(&(delta("a") + &delta("b"))));
        let split = chunk(&delta("c"));
        responses.push(230, &split[..20]);
        responses.push(240, &split[20..]);
        responses.push(250, b"0\r\n\r\n");
        let found = exchanges(&asked(), &responses).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].started_ns, found[0].ended_ns), (100, 250));
        assert_eq!(found[0].deltas_ns, [220, 220, 240]);
        assert_eq!(found[0].gaps_ns(), [20]);
        assert_eq!((found[0].outcome, found[0].model.as_deref()), (Outcome::Ok, Some("m")));
    }

    #[test]
    fn who_closes_first_says_how_a_cut_response_ended() {
        let check = |client: Option<u64>, server: Option<u64>, expected: Outcome, at: u64| {
            let (mut requests, mut responses) = (asked(), Track::default());
            responses.push(200, HEAD);
            requests.closed = client.map(|at| Closed { at, reset: false });
            responses.closed = server.map(|at| Closed { at, reset: false });
            let found = exchanges(&requests, &responses).unwrap();
            assert_eq!((found[0].outcome, found[0].ended_ns), (expected, at));
        };
        check(Some(300), Some(310), Outcome::ClientAbort, 300);
        check(Some(310), Some(300), Outcome::ServerReset, 300);
        check(None, Some(300), Outcome::ServerReset, 300);
        check(None, None, Outcome::Open, 0);
    }

    #[test]
    fn an_answer_until_the_close_is_whole_where_the_server_closes_first() {
        let check = |client: Option<u64>, server: Option<u64>, expected: Outcome| {
            let (mut requests, mut responses) = (asked(), Track::default());
            responses.push(200, b"HTTP/1.1 200 OK\r\n\r\n{}");
            requests.closed = client.map(|at| Closed { at, reset: false });
            responses.closed = server.map(|at| Closed { at, reset: false });
            assert_eq!(exchanges(&requests, &responses).unwrap()[0].outcome, expected);
        };
        check(None, Some(300), Outcome::Ok);
        check(Some(310), Some(300), Outcome::Ok);
        check(Some(300), Some(310), Outcome::ClientAbort);
        check(None, None, Outcome::Open);
    }

    #[test]
    fn a_whole_answer_to_a_client_that_has_gone_is_undecided() {
        let check = |was_reset: bool, expected: bool| {
            let mut requests = asked();
            requests.close(Closed { at: 150, reset: false });
            requests.was_reset = was_reset;
            let mut responses = Track::default();
            responses.push(200, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
            let found = exchanges(&requests, &responses).unwrap();
            assert_eq!((found[0].outcome, found[0].undecided), (Outcome::Ok, expected));
        };
        check(true, true);
        // A half-close that is answered in full.
        check(false, false);
    }

    #[test]
    fn a_request_to_a_closed_server_is_none() {
        let mut responses = Track::default();
        responses.closed = Some(Closed { at: 100, reset: false });
        assert_eq!(exchanges(&asked(), &responses).unwrap(), []);
    }

    #[test]
    fn pipelined_requests_are_answered_in_turn() {
        let mut requests = Track::default();
        requests.push(100, &[ASK, ASK].concat());
        let mut responses = Track::default();
        responses.push(150, b"HTTP/1.1 100 Continue\r\n\r\n");
        responses.push(200, b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\n\r\n{}");
        responses.push(300, b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}");
        let found = exchanges(&requests, &responses).unwrap();
        let ends: Vec<_> = found.iter().map(|exchange| (exchange.outcome, exchange.ended_ns)).collect();
        assert_eq!(ends, [(Outcome::Rejected, 200), (Outcome::ServerError, 300)]);
    }
}
