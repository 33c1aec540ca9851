//! One run over the questions: in which order, how fast, and when it is given up.
//!
//! In: the time, whether the server can be asked, answers and failures. Out: what to do next. The budget holds over runs: in no
//! hour are more tokens spent than allowed.

use std::collections::VecDeque;

use super::answer::Answer;
use super::ask;
use super::questions::Question;

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3600 * SECOND_NS;
/// How long it waits for a server that is busy, or a budget that is spent.
const WAIT_NS: u64 = 2 * SECOND_NS;
/// Failures in a row after which a run is given up.
const FAILURES_MAX: usize = 5;
/// What a server puts around a question, and the answer.
const FRAME_TOKENS: u64 = 256;

/// Tokens of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    spent: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Budget {
    fn settle(&mut self, now_ns: u64) {
        while let Some((time, tokens)) = self.spent.front().copied()
            && now_ns.saturating_sub(time) >= HOUR_NS
        {
            self.spent.pop_front();
            self.sum -= tokens;
        }
    }

    /// Tokens spent in the hour before.
    pub fn spent(&mut self, now_ns: u64) -> u64 {
        self.settle(now_ns);
        self.sum
    }

    fn add(&mut self, now_ns: u64, tokens: u64) {
        self.spent.push_back((now_ns, tokens));
        self.sum += tokens;
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the question of this index.
    Ask(usize),
    /// Nothing before this time, and why.
    Wait(u64, Waits),
    Done,
    /// Too many failures in a row.
    GivenUp,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// The server has enough to do for others.
    Busy,
    /// The tokens of this hour are spent.
    Budget,
    /// The server is not there.
    Server,
}

impl Waits {
    /// As labels and the API have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Budget => "budget",
            Self::Server => "server",
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    order: Vec<usize>,
    at: usize,
    answers: Vec<Option<Answer>>,
    failures: usize,
}

impl Run {
    #[must_use]
    pub fn new(questions: usize, seed: u64) -> Self {
        Self { order: order(questions, seed), at: 0, answers: vec![None; questions], failures: 0 }
    }

    /// What to do now. `held`: what keeps the server from being asked.
    pub fn next(
        &self,
        now_ns: u64,
        held: Option<Waits>,
        questions: &[Question],
        budget: &mut Budget,
        per_hour: u64,
    ) -> Next {
        if self.failures >= FAILURES_MAX {
            return Next::GivenUp;
        }
        let Some(index) = self.order.get(self.at) else { return Next::Done };
        let mut spent = || budget.spent(now_ns) + tokens_max(&questions[*index]) > per_hour;
        match held.or_else(|| spent().then_some(Waits::Budget)) {
            Some(why) => Next::Wait(now_ns + WAIT_NS, why),
            None => Next::Ask(*index),
        }
    }

    /// The question that was asked is answered. Returns the tokens it took.
    pub fn on_answer(
        &mut self,
        now_ns: u64,
        question: &Question,
        answer: Answer,
        budget: &mut Budget,
    ) -> u64 {
        let tokens = answer.tokens.unwrap_or_else(|| tokens_max(question));
        budget.add(now_ns, tokens);
        if let Some(index) = self.order.get(self.at) {
            self.answers[*index] = Some(answer);
        }
        self.at += 1;
        self.failures = 0;
        tokens
    }

    /// It is not; it stays without an answer. What it cost is not known, so the most that it can counts.
    pub fn on_failure(&mut self, now_ns: u64, question: &Question, budget: &mut Budget) {
        budget.add(now_ns, tokens_max(question));
        self.at += 1;
        self.failures += 1;
    }

    /// Answers so far, by question.
    #[must_use]
    pub fn answers(&self) -> &[Option<Answer>] {
        &self.answers
    }

    /// Questions that are done, and all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.at.min(self.order.len()), self.order.len())
    }
}

/// Tokens that a question takes at most: no tokenizer makes more of a text than it has bytes.
#[must_use]
pub fn tokens_max(question: &Question) -> u64 {
    ask::prompt(question).len() as u64 + FRAME_TOKENS
}

/// Each index once, in an order that a seed gives (Fisher and Yates, by SplitMix64).
fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed;
    for last in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        order.swap(last, ((mixed ^ (mixed >> 31)) % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn questions(count: usize) -> Vec<Question> {
        let question = |number: usize| Question {
            text: format!("{number} {}", "x".repeat(number % 500)),
            choices: vec!["a".to_owned(), "b".to_owned()],
            right: 0,
        };
        (0..count).map(question).collect()
    }

    fn answer(tokens: u64) -> Answer {
        Answer { picked: Some(0), confidence: None, tokens: Some(tokens) }
    }

    #[test]
    fn it_waits_while_the_server_is_busy_and_gives_up_after_failures_in_a_row() {
        let (all, mut budget) = (questions(20), Budget::default());
        let mut run = Run::new(all.len(), 1);
        assert_eq!(
            run.next(0, Some(Waits::Busy), &all, &mut budget, 10_000),
            Next::Wait(WAIT_NS, Waits::Busy)
        );
        for _ in 0..FAILURES_MAX {
            let Next::Ask(index) = run.next(0, None, &all, &mut budget, 10_000) else { panic!() };
            run.on_failure(0, &all[index], &mut budget);
        }
        assert_eq!(run.next(0, None, &all, &mut budget, 10_000), Next::GivenUp);
        assert_eq!(run.progress(), (5, 20));
    }

    #[test]
    fn a_run_ends_with_every_question_answered_once() {
        let (all, mut budget) = (questions(30), Budget::default());
        let mut run = Run::new(all.len(), 7);
        while let Next::Ask(index) = run.next(0, None, &all, &mut budget, u64::MAX) {
            assert_eq!(run.answers()[index], None);
            run.on_answer(0, &all[index], answer(1), &mut budget);
        }
        assert_eq!(run.next(0, None, &all, &mut budget, u64::MAX), Next::Done);
        assert!(run.answers().iter().all(Option::is_some));
    }

    proptest! {
        #[test]
        fn an_order_has_each_question_once_and_is_the_same_for_its_seed(count in 0_usize..200, seed in any::<u64>()) {
            let mut found = order(count, seed);
            prop_assert_eq!(&found, &order(count, seed));
            found.sort_unstable();
            prop_assert_eq!(found, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn no_hour_takes_more_than_the_budget(
            costs in proptest::collection::vec(1_u64..FRAME_TOKENS, 1..300),
            per_hour in 1000_u64..5000,
        ) {
            let all = questions(costs.len());
            let (mut budget, mut run, mut now) = (Budget::default(), Run::new(costs.len(), 3), 0);
            let mut asked: Vec<(u64, u64)> = Vec::new();
            loop {
                match run.next(now, None, &all, &mut budget, per_hour) {
                    Next::Ask(index) => {
                        run.on_answer(now, &all[index], answer(costs[index]), &mut budget);
                        asked.push((now, costs[index]));
                        now += SECOND_NS;
                    }
                    Next::Wait(until, _) => now = until + 60 * SECOND_NS,
                    Next::Done | Next::GivenUp => break,
                }
                prop_assert!(now < 10_000 * HOUR_NS);
            }
            for (end, (time, _)) in asked.iter().enumerate() {
                let hour: u64 = asked[..=end].iter().filter(|(of, _)| time - of < HOUR_NS).map(|(_, cost)| cost).sum();
                prop_assert!(hour <= per_hour, "{} in an hour", hour);
            }
        }
    }
}
