//! A phase, part by part: loads made at once, what the agent made of them, and whether that is all of it.
//!
//! In: loads, and what happens meanwhile. Out: a row with what is wrong. An undisturbed load is compared with the
//! wire record by record, and the agent's counters with the records. Of a load whose server ends meanwhile,
//! whatever was answered must have its record; what was cut off may or may not have begun for the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inferscope::clock::BootTime;

use crate::books::{Books, tick_over};
use crate::client;
use crate::harness::load_scripted;
use crate::machine;
use crate::oracle::{
    AgentRecord, Comparison, Labelled, Truth, compare_labelled, fetch_records, newest_record,
};
use crate::stage::until;
use crate::transcript::{Exchange, Outcome};

use super::report::{OutcomeRow, PhaseRow};
use super::scene::{Name, Scene};

/// The agent's records of the last requests may take this long.
const RECORDS_MAX: Duration = Duration::from_secs(15);
/// Labels of models besides those of names.
const NO_NAMES: [&str; 2] = ["other", "unknown"];
/// Names with a label of their own, of all workloads.
const LABELS_MAX: usize = 8;

/// Requests for one server.
pub(super) struct Load {
    pub(super) name: Name,
    pub(super) options: client::Options,
}

/// Where the agent stood before a phase.
struct Before {
    books: Books,
    newest: u64,
}

impl Scene {
    /// Makes the loads at once, with something else meanwhile that no request should feel.
    pub(super) fn exact(
        &mut self,
        loads: Vec<Load>,
        meanwhile: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<PhaseRow> {
        let before = self.before()?;
        let mut made = Vec::new();
        for Load { name, options } in loads {
            let folder = self.folder.join(format!("of-{}", name.label()));
            std::fs::create_dir_all(&folder).context("make a folder for the capture")?;
            let task = self.runtime.spawn(async move { load_scripted(&options, &folder).await });
            made.push((name, task));
        }
        meanwhile(self)?;
        let mut truths = Vec::new();
        for (name, task) in made {
            truths.push((name, self.runtime.block_on(task).context("make load")??));
        }
        let expected = truths.iter().map(|(_, truth)| inference(truth)).sum();
        let records = self.records_after(before.newest, expected)?;
        let after = Books::settled(&self.agent)?;
        let mut row = PhaseRow::default();
        for (name, truth) in &truths {
            compare_one(&mut row, *name, truth, &records, [&before.books, &after]);
        }
        let others: u64 = truths.iter().map(|(_, truth)| other_requests(truth)).sum();
        row.faults.extend(counters_faults([&before.books, &after], &records, Some(others)));
        Ok(row)
    }

    /// Makes a load and disturbs it.
    pub(super) fn disturbed(
        &mut self,
        name: Name,
        disturb: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<PhaseRow> {
        let before = self.before()?;
        let Load { options, .. } =
            self.ordinary(name, "chat-stream-usage=3,chat-whole=1,completions-stream=1")?;
        let task = self.runtime.spawn(async move { client::run(&options, |_| ()).await });
        Self::wait_before();
        let began = BootTime::now().0;
        disturb(self)?;
        let followed = BootTime::now().0;
        let report = self.runtime.block_on(task).context("make load")??;
        let answered = answered_apart(&report.exchanges, began..=followed);
        let records = self.records_after(before.newest, answered.len())?;
        let after = Books::settled(&self.agent)?;
        let sent = report.exchanges.len();
        let mut row = PhaseRow { sent, cut: sent - answered.len(), ..PhaseRow::default() };
        check_answered(&mut row, &report.exchanges, &answered, &records);
        row.faults.extend(counters_faults([&before.books, &after], &records, None));
        Ok(row)
    }

    fn before(&self) -> Result<Before> {
        Ok(Before { books: Books::settled(&self.agent)?, newest: newest_record(self.agent.listen)? })
    }

    /// The records since then, once there are enough, and a little later: one too many would come late.
    fn records_after(&self, newest: u64, enough: usize) -> Result<Vec<AgentRecord>> {
        let listen = self.agent.listen;
        let came = || Some(fetch_records(listen, newest).ok()?.len() >= enough);
        // Where they do not come, the comparison says which.
        let _ = until(RECORDS_MAX, || came().filter(|came| *came));
        tick_over(listen)?;
        // Whoever else serves on this node is none of ours.
        let ours = |record: &AgentRecord| {
            Name::ALL.iter().any(|name| record.workload.as_deref() == Some(name.label()))
        };
        Ok(fetch_records(listen, newest)?.into_iter().filter(ours).collect())
    }
}

/// Requests answered in full, by id, that have nothing to do with what happened meanwhile: a server that answers as
/// soon as it starts is not followed from its first moment.
fn answered_apart(exchanges: &[Exchange], meanwhile: RangeInclusive<u64>) -> HashMap<&str, &Exchange> {
    let answered = exchanges.iter().filter(|one| one.outcome == Outcome::Ok);
    let apart = answered.filter(|one| one.ended_ns < *meanwhile.start() || one.started_ns > *meanwhile.end());
    apart.filter_map(|one| Some((one.request_id.as_deref()?, one))).collect()
}

/// Whatever was answered has one record, which is right; no record is of anything else.
fn check_answered(
    row: &mut PhaseRow,
    sent: &[Exchange],
    answered: &HashMap<&str, &Exchange>,
    records: &[AgentRecord],
) {
    let sent: BTreeSet<_> = sent.iter().filter_map(|one| one.request_id.as_deref()).collect();
    let mut found = BTreeSet::new();
    for record in records {
        let id = record.request_id.as_deref().unwrap_or("without id");
        if !sent.contains(id) || !found.insert(id) {
            row.faults.push(format!("record of no request, or a second one: {id}"));
        }
        let Some(exchange) = answered.get(id) else { continue };
        let chunks = exchange.deltas_ns.len() as u64;
        let right = record.outcome.as_deref() == Some("ok") && record.incomplete.is_none();
        if !right || record.chunks != chunks {
            row.faults.push(format!("{id} was answered with {chunks} events: {record:?}"));
        }
    }
    let missing = answered.keys().filter(|id| !found.contains(*id));
    row.faults.extend(missing.map(|id| format!("no record of {id}, which was answered")));
    let recorded = answered.keys().filter(|id| found.contains(*id)).count();
    row.add_outcome("ok", answered.len(), recorded);
}

fn inference(truth: &Truth) -> usize {
    truth.best().map_or(0, |(_, exchanges)| exchanges.iter().filter(|one| one.is_inference()).count())
}

/// Requests to routes that are only counted; the server's log was asked for, too.
fn other_requests(truth: &Truth) -> u64 {
    let all = truth.best().map_or(0, |(_, exchanges)| exchanges.len());
    (all - inference(truth) + 1) as u64
}

fn compare_one(row: &mut PhaseRow, name: Name, truth: &Truth, records: &[AgentRecord], books: [&Books; 2]) {
    let Some((source, exchanges)) = truth.best() else {
        return row.faults.push("no request was made".to_owned());
    };
    let own: Vec<AgentRecord> =
        records.iter().filter(|one| one.workload.as_deref() == Some(name.label())).cloned().collect();
    let [before, after] = books.map(|books| labels(books, name));
    let labelled = Labelled { before, after };
    let comparison = compare_labelled(exchanges, &own, machine::bounds(source), Some(&labelled));
    row.sent += exchanges.len();
    row.compared += comparison.expected;
    row.undecided += comparison.undecided;
    row.times_too_far += comparison.quantities.iter().filter(|one| !one.passed).count();
    for count in &comparison.counts {
        row.add_outcome(&count.outcome, count.expected, count.measured);
    }
    if !comparison.is_exact() {
        row.faults.push(format!("{}: {}", name.label(), faults_of(&comparison)));
        let differs = comparison.mismatches.first().map(|mismatch| &mismatch.request_id);
        let first = differs.or(comparison.missing.first()).map(String::as_str);
        let truth = exchanges.iter().find(|one| first.is_some() && one.request_id.as_deref() == first);
        let record = own.iter().find(|one| first.is_some() && one.request_id.as_deref() == first);
        row.faults.push(format!("{truth:?} is {record:?}"));
    }
    row.faults.extend(label_faults(
        exchanges.iter().filter_map(|one| one.model.as_deref()),
        &labelled,
        books,
    ));
}

fn faults_of(comparison: &Comparison) -> String {
    let Comparison { missing, doubled, unexpected, incomplete, mismatches, .. } = comparison;
    let first = mismatches.first();
    format!(
        "missing {missing:?}, doubled {doubled:?}, unexpected {unexpected:?}, incomplete {incomplete:?}, \
         {} fields differ, the first {first:?}",
        comparison.mismatches_total
    )
}

/// Names with a label on the page.
fn labels(books: &Books, name: Name) -> BTreeSet<String> {
    let samples = books.0.get("vllm_requests_total").map(|family| family.samples.as_slice());
    let of = samples.unwrap_or_default().iter().filter(|one| one.labels["workload"] == name.label());
    of.map(|one| one.labels["model"].clone()).filter(|model| !NO_NAMES.contains(&model.as_str())).collect()
}

/// Labels stay, are of names that passed, and are given while there are some.
fn label_faults<'a>(
    names: impl Iterator<Item = &'a str>,
    labelled: &Labelled,
    books: [&Books; 2],
) -> Vec<String> {
    let mut faults = Vec::new();
    let names: BTreeSet<&str> = names.collect();
    let taken: usize = Name::ALL.map(|name| labels(books[1], name).len()).iter().sum();
    if taken > LABELS_MAX {
        faults.push(format!("{taken} models have a label"));
    }
    if !labelled.before.is_subset(&labelled.after) {
        faults.push(format!("a model has lost its label: {labelled:?}"));
    }
    let new = labelled.after.difference(&labelled.before);
    faults.extend(
        new.filter(|name| !names.contains(name.as_str())).map(|name| format!("{name} was never asked for")),
    );
    let unknown = names.iter().filter(|name| name.starts_with("soak/") && !labelled.after.contains(**name));
    if taken < LABELS_MAX && unknown.count() > 0 {
        faults.push(format!("a model has no label though only {taken} are taken"));
    }
    faults
}

/// The counters grew by what the records say, and the books add up.
fn counters_faults(books: [&Books; 2], records: &[AgentRecord], others: Option<u64>) -> Vec<String> {
    let [before, after] = books;
    let grown = |family: &str, labels: &[(&str, &str)]| {
        after.sum(family, labels).saturating_sub(before.sum(family, labels))
    };
    let grown_of_ours = |family: &str, labels: &[(&str, &str)]| -> u64 {
        let of = |name: Name| grown(family, &[labels, &[("workload", name.label())]].concat());
        Name::ALL.into_iter().map(of).sum()
    };
    let told = before.faults();
    let mut faults = after.faults();
    faults.retain(|fault| !told.contains(fault));
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records {
        *outcomes.entry(record.outcome.as_deref().unwrap_or_default()).or_default() += 1;
    }
    for (outcome, count) in outcomes {
        let counted = grown_of_ours("vllm_request_outcomes_total", &[("outcome", outcome)]);
        if counted != count {
            faults.push(format!("{counted} requests were counted {outcome}, {count} recorded"));
        }
    }
    let requests = grown_of_ours("vllm_requests_total", &[]);
    if requests != records.len() as u64 {
        faults.push(format!("{requests} requests were counted, {} recorded", records.len()));
    }
    let other = grown_of_ours("inferscope_http_requests_total", &[]);
    if others.is_some_and(|others| others != other) {
        faults.push(format!("{other} other requests were counted, not {others:?}"));
    }
    let of = |name: Name| after.sum("vllm_requests_in_flight", &[("workload", name.label())]);
    let open: u64 = Name::ALL.into_iter().map(of).sum();
    if open > 0 {
        faults.push(format!("{open} requests are still open"));
    }
    let lost = grown("inferscope_events_lost_total", &[]);
    let harmless = grown("inferscope_events_lost_total", &[("stage", "program")])
        + grown("inferscope_events_lost_total", &[("stage", "request"), ("reason", "unfinished")]);
    if lost > harmless {
        faults.push(format!("{} events were lost: {after}", lost - harmless));
    }
    faults
}

impl PhaseRow {
    fn add_outcome(&mut self, outcome: &str, expected: usize, measured: usize) {
        let row = self.outcomes.iter_mut().find(|row| row.outcome == outcome);
        match row {
            Some(row) => {
                row.expected += expected;
                row.measured += measured;
            }
            None => self.outcomes.push(OutcomeRow { outcome: outcome.to_owned(), expected, measured }),
        }
    }
}
