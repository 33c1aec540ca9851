//! What a transcript says about a kernel, and whether that is what was expected.
//!
//! In: the transcript and the kernel's family. Out: programs and trials for the report, and every failure in a sentence.

use super::expect::{Expected, Family};
use super::guest::{self, Outcome};
use super::steps::{self, Trial};
use serde::{Deserialize, Serialize};

/// Lines of a failed step's output that are shown.
const LAST_LINES: usize = 40;

/// What `doctor --load` says of one program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Program {
    pub duty: String,
    pub program: String,
    pub hook: String,
    pub in_use: bool,
    /// Why it does not load.
    pub absent: Option<String>,
    /// Kernels from 5.16 on count them.
    pub verified_instructions: Option<u64>,
}

#[derive(Deserialize)]
struct Doctor {
    programs: Vec<Program>,
}

/// How a trial went.
#[derive(Debug, Serialize)]
pub struct Tried {
    pub name: String,
    /// `passed`, `refused, as expected`, or what went wrong.
    pub came_to: String,
    pub passed: bool,
    pub seconds: f64,
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub programs: Vec<Program>,
    pub tried: Vec<Tried>,
    pub failures: Vec<Failure>,
}

#[derive(Debug)]
pub struct Failure {
    /// One sentence.
    pub what: String,
    /// The guest's last lines about it.
    pub said: String,
}

impl Verdict {
    pub fn of(transcript: &str, trials: &[Trial], family: &Family) -> Self {
        let outcomes = guest::outcomes(transcript);
        let mut verdict = Self::default();
        for trial in trials {
            let outcome = outcomes.iter().find(|outcome| outcome.name == trial.step.name);
            verdict.judge(trial, outcome);
        }
        let output_of = |name: &str| {
            outcomes.iter().find(|outcome| outcome.name == name).map(|found| found.output.as_str())
        };
        let present: Vec<&str> =
            output_of(steps::HOOKS).unwrap_or_default().lines().filter(|line| !line.is_empty()).collect();
        if let Some(said) = output_of(steps::PROGRAMS) {
            match serde_json::from_str::<Doctor>(json_of(said)) {
                Ok(doctor) => {
                    for breach in (Rules { family, present: &present }).breaches(&doctor.programs) {
                        verdict.fail(format!("{}: {breach}", steps::PROGRAMS), String::new());
                    }
                    verdict.programs = doctor.programs;
                }
                Err(error) => verdict.fail(
                    format!("what the agent's doctor says is not understood: {error}"),
                    last_lines(said),
                ),
            }
        }
        verdict
    }

    /// Of a machine that did not come up.
    pub fn stillborn(why: String) -> Self {
        let mut verdict = Self::default();
        verdict.fail(why, String::new());
        verdict
    }

    /// The machine ended before its last step did; the console may say why.
    pub fn cut_short(&mut self, why: &str, console: &str) {
        self.fail(format!("the machine was cut short: {why}"), last_lines(console));
    }

    fn judge(&mut self, trial: &Trial, outcome: Option<&Outcome>) {
        let name = &trial.step.name;
        let (came_to, passed) = match outcome.and_then(|outcome| Some((outcome, outcome.ended?.0))) {
            None => (if outcome.is_some() { "did not end" } else { "never began" }.to_owned(), false),
            Some((_, 137)) => (format!("did not end within {} s", trial.step.limit.as_secs()), false),
            Some((outcome, status)) => came_to(trial.expected, status, &outcome.output),
        };
        if !passed {
            let said = outcome.map(|outcome| last_lines(&outcome.output)).unwrap_or_default();
            self.fail(format!("{name}: {came_to}"), said);
        }
        let seconds = outcome.and_then(|outcome| outcome.ended).map_or(0.0, |(_, seconds)| seconds);
        self.tried.push(Tried { name: name.clone(), came_to, passed, seconds });
    }

    fn fail(&mut self, what: String, said: String) {
        self.failures.push(Failure { what, said });
    }
}

fn came_to(expected: Expected, status: u8, output: &str) -> (String, bool) {
    match (expected, status) {
        (Expected::Passes, 0) => ("passed".to_owned(), true),
        (Expected::Passes, status) => (format!("ended with status {status}"), false),
        (Expected::Refuses(_), 0) => ("the agent ran, where it was expected to refuse".to_owned(), false),
        (Expected::Refuses(why), _) if output.contains("the agent ended with") && output.contains(why) => {
            (format!("the agent refuses to start, as expected: {why}"), true)
        }
        (Expected::Refuses(why), _) => (format!("failed, but not with the expected refusal ({why})"), false),
    }
}

/// What programs are held against.
struct Rules<'a> {
    family: &'a Family,
    /// Hooks that the kernel's types have.
    present: &'a [&'a str],
}

impl Rules<'_> {
    fn breaches(&self, programs: &[Program]) -> Vec<String> {
        let mut breaches: Vec<String> = programs.iter().filter_map(|program| self.breach(program)).collect();
        let mut in_use: Vec<&str> =
            programs.iter().filter(|program| program.in_use).map(|program| program.hook.as_str()).collect();
        in_use.sort_unstable();
        in_use.dedup();
        let expected = self.family.in_use;
        for hook in expected.iter().filter(|hook| !in_use.contains(hook)) {
            breaches.push(format!("{hook} is not in use, where it is expected to be"));
        }
        for hook in in_use.iter().filter(|hook| !expected.contains(hook)) {
            breaches.push(format!("{hook} is in use, where it is not expected to be"));
        }
        breaches
    }

    fn breach(&self, program: &Program) -> Option<String> {
        let Program { program: name, hook, absent, .. } = program;
        let is_present = self.present.contains(&hook.as_str());
        match absent {
            None if !is_present => {
                Some(format!("{name} loads to {hook}, which the kernel's types do not have"))
            }
            Some(reason) if is_present => {
                let refused = self.family.refused.iter().any(|(refused, _)| refused == hook);
                (!refused).then(|| format!("{name} does not load to {hook}, which is there: {reason}"))
            }
            _ => None,
        }
    }
}

/// The report alone: the emulated machine may have said something before it.
fn json_of(output: &str) -> &str {
    let begin = output.find("{\n").or_else(|| output.find('{')).unwrap_or(0);
    output[begin..].trim_end()
}

fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::expect;
    use crate::kernel::packages::Version;

    fn program(hook: &str, in_use: bool, absent: Option<&str>) -> Program {
        Program {
            duty: "socket bytes".to_owned(),
            program: "some".to_owned(),
            hook: hook.to_owned(),
            in_use,
            absent: absent.map(str::to_owned),
            verified_instructions: None,
        }
    }

    #[test]
    fn a_program_that_does_not_load_to_a_hook_that_is_there_is_a_failure() {
        let family = expect::family(Version(6, 12)).unwrap();
        let check = |present: bool, absent: Option<&str>, passes: bool| {
            let hook = "fexit/tcp_recvmsg";
            let present: &[&str] = if present { &[hook] } else { &[] };
            let breach = Rules { family, present }.breach(&program(hook, false, absent));
            assert_eq!(breach.is_none(), passes, "{present:?} {absent:?}: {breach:?}");
        };
        check(true, None, true);
        check(true, Some("the verifier says no"), false);
        check(false, Some("the kernel has no function"), true);
        check(false, None, false);
    }

    #[test]
    fn hooks_in_use_are_those_of_the_table() {
        let family = expect::family(Version(6, 12)).unwrap();
        let rules = Rules { family, present: family.in_use };
        let mut programs: Vec<_> = family.in_use.iter().map(|hook| program(hook, true, None)).collect();
        assert_eq!(rules.breaches(&programs), Vec::<String>::new());
        programs[0].in_use = false;
        assert_eq!(rules.breaches(&programs).len(), 1);
        programs[0] = program("tp_btf/sys_exit", true, None);
        assert_eq!(rules.breaches(&programs).len(), 3);
    }

    #[test]
    fn a_refusal_counts_only_where_it_is_expected_and_says_why() {
        let check = |expected, status, output: &str, passes| {
            assert_eq!(came_to(expected, status, output).1, passes, "{status} {output}");
        };
        check(Expected::Passes, 0, "", true);
        check(Expected::Passes, 101, "", false);
        let refuses = Expected::Refuses("confidentiality");
        check(refuses, 0, "", false);
        check(refuses, 101, "the agent ended with exit status: 1: lockdown is at `confidentiality`", true);
        check(refuses, 101, "the agent ended with exit status: 101: index out of bounds", false);
        check(refuses, 101, "duration differs under confidentiality", false);
    }

    #[test]
    fn the_report_is_found_after_other_words() {
        assert_eq!(json_of("warning\n{\n  \"a\": 1\n}\n\n"), "{\n  \"a\": 1\n}");
        assert_eq!(json_of("{}"), "{}");
    }
}
