//! What a response shall be: content, borders of writes, times, and how it ends.

use serde::{Deserialize, Serialize};

use crate::socket::Calls;

/// Events of one response at most.
pub const EVENTS_MAX: u32 = 100_000;
/// Bytes of a padded body at most.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Longest wait of a script, so that no request outlives its test.
pub const WAIT_US_MAX: u64 = 60_000_000;

/// Whose habits of writing the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrontEnd {
    /// One `write` for the head, for each event, for `[DONE]` and for the last chunk.
    #[default]
    Python,
    /// One `writev` of three pieces an event, several events under load; the end goes with the last.
    Rust,
}

/// How the end of a body that is no stream is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    #[default]
    Length,
    Chunked,
    /// The server closes.
    Close,
}

/// When `usage` is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// Always in a whole body; in a stream when the request asks.
    #[default]
    AsAsked,
    Never,
    Always,
}

/// How a response ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    #[default]
    Complete,
    /// A stream ends with an `error` event.
    ErrorEvent,
    /// The server closes after this many writes of the response.
    CloseAfter(u32),
    /// The server resets the connection after this many writes.
    ResetAfter(u32),
}

/// The script of one response. Times in microseconds; what is left out is the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    pub front_end: FrontEnd,
    pub calls: Calls,
    pub status: u16,
    /// From the whole request to the head; for errors and whole bodies to the response.
    pub head_after_us: u64,
    /// From the head to the first event, or to the body.
    pub first_after_us: u64,
    /// Between groups of events with a delta, taken in turn.
    pub gaps_us: Vec<u64>,
    /// A delta with the role and no content comes first (chat only).
    pub role_first: bool,
    /// Events with reasoning, then events with content, then with tool calls.
    pub reasoning: u32,
    pub content: u32,
    pub tool_calls: u32,
    /// Tokens in each delta: a server that falls behind merges them.
    pub tokens_per_event: u32,
    /// Bytes of text in each delta.
    pub text_bytes: usize,
    /// All of the text of a whole body, in place of so many bytes.
    pub says: Option<String>,
    /// Events with a delta in one write.
    pub events_per_write: u32,
    /// Writes that one such group is cut into, and the wait between them.
    pub writes_per_group: u32,
    pub cut_us: u64,
    /// A comment in a write of its own before every so many groups; 0 is never.
    pub comment_every: u32,
    pub usage: Usage,
    pub finish: String,
    pub ending: Ending,
    /// Whole bodies: padded with text to this many bytes.
    pub body_bytes: usize,
    pub framing: Framing,
    /// Writes that the body of such a response is cut into.
    pub body_writes: u32,
    /// Close after the response, and say so.
    pub close: bool,
    /// Bytes that the kernel may hold for a client that does not read.
    pub send_buffer_bytes: Option<usize>,
    /// The server looks away this long before it reads the connection's next request.
    pub next_read_after_us: u64,
    /// A half-closed client is answered in full; vLLM drops the response.
    pub answers_half_closed: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            front_end: FrontEnd::default(),
            calls: Calls::default(),
            status: 200,
            head_after_us: 1_000,
            first_after_us: 20_000,
            gaps_us: vec![10_000],
            role_first: true,
            reasoning: 0,
            content: 8,
            tool_calls: 0,
            tokens_per_event: 1,
            text_bytes: 5,
            says: None,
            events_per_write: 1,
            writes_per_group: 1,
            cut_us: 2_000,
            comment_every: 0,
            usage: Usage::default(),
            finish: "stop".to_owned(),
            ending: Ending::default(),
            body_bytes: 0,
            framing: Framing::default(),
            body_writes: 1,
            close: false,
            send_buffer_bytes: None,
            next_read_after_us: 0,
            answers_half_closed: false,
        }
    }
}

impl Script {
    /// The script with everything that could run away brought back under its bound.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for wait in [
            &mut self.head_after_us,
            &mut self.first_after_us,
            &mut self.cut_us,
            &mut self.next_read_after_us,
        ] {
            *wait = (*wait).min(WAIT_US_MAX);
        }
        self.gaps_us.iter_mut().for_each(|gap| *gap = (*gap).min(WAIT_US_MAX));
        for count in [&mut self.reasoning, &mut self.content, &mut self.tool_calls] {
            *count = (*count).min(EVENTS_MAX);
        }
        self.events_per_write = self.events_per_write.clamp(1, EVENTS_MAX);
        self.writes_per_group = self.writes_per_group.clamp(1, EVENTS_MAX);
        self.body_writes = self.body_writes.clamp(1, EVENTS_MAX);
        self.body_bytes = self.body_bytes.min(BODY_BYTES_MAX);
        self.text_bytes = self.text_bytes.clamp(1, BODY_BYTES_MAX);
        self
    }

    /// As JSON for the header `x-script`: only what differs from the default.
    ///
    /// # Panics
    ///
    /// Never: a script is plain data.
    #[must_use]
    pub fn to_header(&self) -> String {
        let value = |script: &Self| serde_json::to_value(script).expect("a script is plain data");
        let (mut mine, default) = (value(self), value(&Self::default()));
        let fields = mine.as_object_mut().expect("a script is an object");
        fields.retain(|name, field| default[name.as_str()] != *field);
        mine.to_string()
    }

    /// Events with a delta.
    #[must_use]
    pub fn deltas(&self) -> u32 {
        self.reasoning + self.content + self.tool_calls
    }

    /// Tokens of the answer.
    #[must_use]
    pub fn completion_tokens(&self) -> u64 {
        u64::from(self.deltas()) * u64::from(self.tokens_per_event)
    }

    /// Wait before the group of this number; the first has its own.
    #[must_use]
    pub fn gap_us(&self, group: usize) -> u64 {
        if group == 0 || self.gaps_us.is_empty() {
            return 0;
        }
        self.gaps_us[(group - 1) % self.gaps_us.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_the_script_back() {
        assert_eq!(Script::default().to_header(), "{}");
        for (name, _) in crate::fake_server::SCENARIOS {
            let script = crate::fake_server::scenario(name, 3).unwrap();
            assert_eq!(serde_json::from_str::<Script>(&script.to_header()).unwrap(), script, "{name}");
        }
    }

    #[test]
    fn what_could_run_away_is_bounded() {
        let script =
            Script { content: u32::MAX, first_after_us: u64::MAX, events_per_write: 0, ..Script::default() };
        let script = script.bounded();
        assert_eq!((script.content, script.first_after_us), (EVENTS_MAX, WAIT_US_MAX));
        assert_eq!(script.events_per_write, 1);
    }
}
