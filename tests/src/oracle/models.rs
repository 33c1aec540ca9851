//! Labels that model names should have: a name needs a good answer before it is one.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::transcript::Exchange;

/// Names with a label of their own on the agent's page, before the requests at hand and after them: there are fewer
/// labels than a long run has names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    pub before: BTreeSet<String>,
    pub after: BTreeSet<String>,
}

/// What the label of each request's model should be.
pub(super) struct Models<'a> {
    /// End of the first good answer that carried the name.
    proven: HashMap<&'a str, u64>,
    /// Requests that ended before that, and that the agent calls `other`, as it may.
    early: HashSet<Option<&'a str>>,
}

impl<'a> Models<'a> {
    pub(super) fn of(truth: &[&'a Exchange], labelled: Option<&'a Labelled>) -> Self {
        let mut proven: HashMap<&str, u64> = HashMap::new();
        for exchange in truth.iter().filter(|exchange| carries_name(exchange)) {
            let Some(model) = exchange.model.as_deref() else { continue };
            let end = proven.entry(model).or_insert(exchange.ended_ns);
            *end = exchange.ended_ns.min(*end);
        }
        if let Some(Labelled { before, after }) = labelled {
            proven.retain(|model, _| after.contains(*model));
            proven.extend(before.iter().map(|model| (model.as_str(), 0)));
        }
        Self { proven, early: HashSet::new() }
    }

    /// Takes note of what the agent calls the model of a request.
    pub(super) fn hear(&mut self, exchange: &'a Exchange, measured: Option<&str>) {
        let proven = exchange.model.as_deref().and_then(|model| self.proven.get(model));
        let early = proven.is_some_and(|proven| exchange.ended_ns < *proven) && !carries_name(exchange);
        if early && measured == Some("other") {
            self.early.insert(exchange.request_id.as_deref());
        }
    }

    pub(super) fn label(&self, exchange: &'a Exchange) -> &'a str {
        match exchange.model.as_deref() {
            None => "unknown",
            Some(_) if self.early.contains(&exchange.request_id.as_deref()) => "other",
            Some(model) if self.proven.contains_key(model) => model,
            Some(_) => "other",
        }
    }
}

/// A 2xx response of which an event or the body was seen.
fn carries_name(exchange: &Exchange) -> bool {
    exchange.status.is_some_and(|status| (200..300).contains(&status)) && exchange.response_id.is_some()
}
