//! The thread that asks: run after run, one question at a time, over the server's own port on loopback.
//!
//! In: the servers as the pipeline sees them, once a second. Out: the newest [`Standing`]; answers of a run that came to its
//! end go to the keeper. Nothing waits for it. It ends soon after the [`Canary`] is dropped.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;

use super::answer::{self, ANSWER_BYTES_MAX, Answer};
use super::ask;
use super::outcome::{LastRun, Outcome};
use super::questions::{self, Question};
use super::run::{Budget, Next, Run, Waits, tokens_max};
use super::settings::Settings;
use super::{Server, Standing};
use crate::http_client::{self, Failure, Limits, Why};
use crate::quality::keeper::{Part, Save};

/// What an answer may take: a server may compile for the first that wants alternatives.
const LIMITS: Limits = Limits { time: Duration::from_secs(60), bytes: ANSWER_BYTES_MAX };
/// Pace at which it is seen whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pace at which a new look of the pipeline is waited for.
const LOOK_WITHIN: Duration = Duration::from_millis(20);
/// Longest key, in bytes.
const KEY_BYTES_MAX: u64 = 4096;
/// What is told of a server's own words, in letters.
const SAID_MAX: usize = 200;
/// Random bytes of the mark.
const MARK_BYTES: usize = 16;

/// The thread, as the pipeline has it.
#[derive(Debug)]
pub struct Canary {
    desk: Arc<Mutex<Desk>>,
    mark: Box<str>,
}

#[derive(Debug, Default)]
struct Desk {
    servers: Vec<Server>,
    /// How often they were looked at.
    looks: u64,
    standing: Standing,
}

impl Canary {
    /// Draws the mark of its requests, which nobody can guess.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut random = [0_u8; MARK_BYTES];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("random bytes")?;
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let standing =
            Standing { model: settings.model.as_deref().unwrap_or_default().into(), ..Standing::default() };
        let desk = Arc::new(Mutex::new(Desk { standing, ..Desk::default() }));
        Ok(Self { desk, mark: format!("inferscope-canary-{digits}-").into() })
    }

    /// What the ids of its requests begin with.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Starts the thread: only once rights were given up. `last`: what was kept of the last run.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self, settings: &Settings, last: Option<LastRun>, save: Option<Save>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let asker = Asker {
            settings: settings.clone(),
            desk: Arc::downgrade(&self.desk),
            mark: self.mark.clone(),
            runtime: runtime.context("start the canary's clock")?,
            began: Instant::now(),
            budget: Budget::default(),
            asked: 0,
            seen: 0,
            last,
            save,
        };
        let thread = std::thread::Builder::new().name("canary".to_owned());
        thread.spawn(move || asker.work()).context("start the thread of the canary")?;
        Ok(())
    }

    /// From now on these servers.
    pub fn follow(&self, servers: Vec<Server>) {
        let mut desk = lock(&self.desk);
        desk.servers = servers;
        desk.looks += 1;
    }

    #[must_use]
    pub fn newest(&self) -> Standing {
        lock(&self.desk).standing.clone()
    }
}

/// Why a question or a run failed: its label, and in words.
type Failed = (&'static str, String);

/// The canary was dropped.
struct Gone;

struct Asker {
    settings: Settings,
    desk: Weak<Mutex<Desk>>,
    mark: Box<str>,
    runtime: Runtime,
    began: Instant,
    budget: Budget,
    asked: u64,
    /// The look that was used last.
    seen: u64,
    last: Option<LastRun>,
    save: Option<Save>,
}

impl Asker {
    fn work(mut self) {
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            let Ok(server) = self.server() else { return };
            if now >= due && server.is_some() {
                due = now + self.settings.every;
                if self.run().is_err() {
                    return;
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// One run from its first question to its last.
    fn run(&mut self) -> Result<(), Gone> {
        let read = || Ok::<_, anyhow::Error>((self.questions()?, self.key()?));
        let (questions, key) = match read() {
            Ok(read) => read,
            Err(error) => return self.fail("files", &format!("{error:#}"), true),
        };
        let mut run = Run::new(questions.len(), self.settings.seed);
        let before = self.server()?.map(|server| server.identity);
        loop {
            let server = self.server_anew()?;
            let held = match &server {
                None => Some(Waits::Server),
                Some(server) => (server.open >= self.settings.busy_requests).then_some(Waits::Busy),
            };
            let per_hour = self.settings.tokens_per_hour;
            match run.next(self.now_ns(), held, &questions, &mut self.budget, per_hour) {
                Next::Wait(until, why) => self.wait(until, why, &run)?,
                Next::Ask(index) => {
                    let port = server.map_or(0, |server| server.port);
                    self.ask(&mut run, &questions[index], port, key.as_deref())?;
                }
                Next::GivenUp => return self.fail("given_up", "", true),
                Next::Done => break,
            }
        }
        let after = self.server()?.map(|server| server.identity);
        self.end(&run, &questions, before.filter(|_| before == after))
    }

    fn ask(&mut self, run: &mut Run, question: &Question, port: u16, key: Option<&str>) -> Result<(), Gone> {
        let answer = self.answer(question, port, key);
        let now_ns = self.now_ns();
        match answer {
            Ok(answer) => {
                let tokens = run.on_answer(now_ns, question, answer, &mut self.budget);
                let progress = run.progress();
                self.tell(|standing| {
                    standing.tokens += tokens;
                    standing.progress = Some(progress);
                    standing.waits = None;
                })
            }
            Err((reason, words)) => {
                run.on_failure(now_ns, question, &mut self.budget);
                self.fail(reason, &words, false)
            }
        }
    }

    fn answer(&mut self, question: &Question, port: u16, key: Option<&str>) -> Result<Answer, Failed> {
        let (settings, route) = (&self.settings, self.settings.route.path());
        let id = format!("{}{}", self.mark, self.asked);
        self.asked += 1;
        let authorization = key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("x-request-id", id.as_str())];
        headers.extend(authorization.as_deref().map(|key| ("authorization", key)));
        let server = http_client::Server::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let body = ask::body(question, settings.model.as_deref().unwrap_or_default(), settings);
        let answered = self
            .runtime
            .block_on(http_client::post(&server, route, &headers, body, LIMITS))
            .map_err(|failure| failed(&failure))?;
        answer::read(&answered, question.choices.len()).map_err(|error| ("answer", error))
    }

    fn end(&mut self, run: &Run, questions: &[Question], identity: Option<u64>) -> Result<(), Gone> {
        let outcome = Outcome::of(questions, run.answers(), identity, self.last.as_ref());
        tracing::info!(
            right = outcome.right,
            wrong = outcome.wrong,
            unanswered = outcome.unanswered,
            flips = outcome.flips,
            "the canary's run is over"
        );
        if let Some(last) = LastRun::of(questions, run.answers(), identity) {
            self.last = Some(last.clone());
            // Without a state, answers are known as long as the agent runs.
            let _no_state = self.save.as_ref().map(|save| save.send(Part::Canary(last)));
        }
        let all_failed = run.answers().iter().all(Option::is_none);
        self.tell(|standing| {
            standing.outcome = Some(outcome);
            standing.ended = Some(SystemTime::now());
            standing.runs += 1;
            standing.progress = None;
            standing.waits = None;
            if !all_failed {
                standing.failure = None;
            }
        })
    }

    /// Waits, and says for what.
    fn wait(&self, until_ns: u64, why: Waits, run: &Run) -> Result<(), Gone> {
        let progress = run.progress();
        while self.now_ns() < until_ns {
            self.tell(|standing| {
                standing.waits = Some(why);
                standing.progress = Some(progress);
                *standing.waited.entry(why).or_default() += LOOK_EVERY;
            })?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// `over`: the run is. The first of several failures is told in the log, all are counted.
    fn fail(&self, reason: &'static str, words: &str, over: bool) -> Result<(), Gone> {
        let mut first = false;
        self.tell(|standing| {
            *standing.failures.entry(reason).or_default() += 1;
            first = standing.failure.is_none();
            // What made it give up says more than that it did.
            if !words.is_empty() {
                standing.failure = Some(words.to_owned());
            }
            if over {
                (standing.progress, standing.waits) = (None, None);
            }
        })?;
        if first {
            tracing::warn!("the canary has no answer: {words}");
        } else if over {
            tracing::warn!("the canary's run is given up");
        }
        Ok(())
    }

    fn questions(&self) -> Result<Vec<Question>> {
        let path = self.settings.questions.as_deref().context("`canary.questions` is not set")?;
        let questions = questions::read_file(path)?;
        let per_hour = self.settings.tokens_per_hour;
        for (index, tokens) in questions.iter().map(tokens_max).enumerate() {
            // It would be waited for without end.
            ensure!(
                tokens <= per_hour,
                "question {} of {} may take {tokens} tokens, `canary.tokens_per_hour` is {per_hour}",
                index + 1,
                path.display()
            );
        }
        Ok(questions)
    }

    fn key(&self) -> Result<Option<String>> {
        self.settings.api_key_file.as_deref().map(read_key).transpose()
    }

    /// The server as the pipeline saw it since this was last asked: what came to it meanwhile has to be known. So there is one
    /// question a second at most.
    fn server_anew(&mut self) -> Result<Option<Server>, Gone> {
        loop {
            let looks = lock(&*self.desk.upgrade().ok_or(Gone)?).looks;
            if looks != self.seen {
                self.seen = looks;
                return self.server();
            }
            std::thread::sleep(LOOK_WITHIN);
        }
    }

    /// The server to ask, if it is there.
    fn server(&self) -> Result<Option<Server>, Gone> {
        let desk = self.desk.upgrade().ok_or(Gone)?;
        let desk = lock(&desk);
        let wanted = |server: &&Server| match &self.settings.workload {
            Some(label) => *server.label == **label,
            None => true,
        };
        Ok(desk.servers.iter().find(wanted).cloned())
    }

    fn tell(&self, change: impl FnOnce(&mut Standing)) -> Result<(), Gone> {
        let desk = self.desk.upgrade().ok_or(Gone)?;
        change(&mut lock(&desk).standing);
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn read_key(path: &Path) -> Result<String> {
    let context = || format!("read the key {}", path.display());
    let file = File::open(path).with_context(context)?;
    ensure!(file.metadata().with_context(context)?.is_file(), "{} is no plain file", path.display());
    let mut key = String::new();
    file.take(KEY_BYTES_MAX + 1).read_to_string(&mut key).with_context(context)?;
    let key = key.trim();
    let fits =
        !key.is_empty() && key.len() as u64 <= KEY_BYTES_MAX && key.chars().all(|c| c.is_ascii_graphic());
    ensure!(fits, "the key in {} is empty, too long, or no word of ASCII", path.display());
    Ok(key.to_owned())
}

fn failed(failure: &Failure) -> Failed {
    let reason = match &failure.why {
        Why::Connect(_) => "connect",
        Why::Late(_) => "late",
        Why::Status(..) => "status",
        Why::Tls(_) | Why::NotHttp | Why::Closed | Why::Broken(_) | Why::TooLong(_) => "answer",
    };
    let said = match &failure.why {
        Why::Status(_, said) => String::from_utf8_lossy(said).into_owned(),
        _ => String::new(),
    };
    // It may be shown on a terminal.
    let said: String =
        said.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SAID_MAX).collect();
    let words = if said.is_empty() { failure.to_string() } else { format!("{failure}: {said}") };
    (reason, words)
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
