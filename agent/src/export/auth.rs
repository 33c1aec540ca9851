//! Who may ask: tokens and passwords of the endpoint.
//!
//! In: files of both, and the header `authorization` of a request. Out: whether it is one of those that are known. What is
//! secret is kept as a keyed hash and compared in constant time; nothing of it is ever written anywhere.
//!
//! A password is dear to check by design, and a stranger must not make the agent pay for that: one is checked at a time, in
//! a thread that nothing else waits for, and after a wrong one there is a pause. One that was right is known by its hash from
//! then on, so that a scrape each second costs what a token does.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::secret;
use crate::health::Unauthorized;

/// Tokens in a file: the new and the old of a few scrapers.
const TOKENS_MAX: usize = 64;
/// Shortest token, in characters: guessing one that is random is hopeless at any rate.
const TOKEN_CHARACTERS_MIN: usize = 16;
/// Names in a file.
const USERS_MAX: usize = 64;
/// Costs of a hash that are taken: above, one check takes seconds of a processor that the servers want.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// After a wrong password nothing is checked for so many times what it took, so that guesses take a fifth of a processor
/// whatever a hash costs: four a second of a cost of 10.
const WRONG_PAUSE_TIMES: u32 = 4;
/// And for this at least, where a hash is cheap.
const WRONG_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Passwords that wait for their check, at most: who comes then is told to come again. The rest of the connections is for
/// those whose password is known.
const WAITING_MAX: usize = 8;
/// Whom a browser or an operator is told to name themselves to.
const CHALLENGE_BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"inferscope\"");
const CHALLENGE_BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"inferscope\", charset=\"UTF-8\"");

/// Tokens and passwords that are known.
#[derive(Debug)]
pub struct Guard {
    /// Random, and gone with the process.
    key: hmac::Key,
    tokens: Vec<hmac::Tag>,
    users: Vec<User>,
    challenges: Vec<HeaderValue>,
    /// One password at a time.
    checks: Arc<Semaphore>,
    /// Those that wait, and the one that is checked.
    places: Semaphore,
}

/// Who has a password.
pub struct User {
    name: String,
    hash: String,
    cost: u32,
    /// Of the password that was found to be right.
    known: OnceLock<hmac::Tag>,
}

impl User {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Guard {
    /// Those in the files; none where no file is named, and everybody may ask.
    ///
    /// # Errors
    /// What is wrong with which line of which file; never what is in it.
    pub fn read(tokens: Option<&Path>, users: Option<&Path>) -> Result<Option<Self>> {
        let named = |key: &str, path: &Path| format!("`export.{key}` {}", path.display());
        let of_file = |path: &Path| secret::read(path);
        let tokens = tokens.map(|path| {
            of_file(path)
                .and_then(|bytes| read_tokens(&bytes))
                .with_context(|| named("bearer_token_file", path))
        });
        let users = users.map(|path| {
            of_file(path).and_then(|bytes| read_users(&bytes)).with_context(|| named("basic_auth_file", path))
        });
        match (tokens.transpose()?, users.transpose()?) {
            (None, None) => Ok(None),
            (tokens, users) => Self::new(tokens, users).map(Some),
        }
    }

    fn new(tokens: Option<Vec<String>>, users: Option<Vec<User>>) -> Result<Self> {
        let challenges = [tokens.as_ref().map(|_| CHALLENGE_BEARER), users.as_ref().map(|_| CHALLENGE_BASIC)];
        let random = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = random.ok().context("make a random key")?;
        let tokens = tokens.unwrap_or_default();
        Ok(Self {
            tokens: tokens.iter().map(|token| hmac::sign(&key, token.as_bytes())).collect(),
            key,
            users: users.unwrap_or_default(),
            challenges: challenges.into_iter().flatten().collect(),
            checks: Arc::new(Semaphore::new(1)),
            places: Semaphore::new(WAITING_MAX + 1),
        })
    }

    /// What a client is told to name, one header each.
    pub(super) fn challenges(&self) -> &[HeaderValue] {
        &self.challenges
    }

    /// Whether a request with these headers may be answered.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(self: &Arc<Self>, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let right = match offer(headers) {
            Offer::Nothing => return Err(Unauthorized::Missing),
            Offer::Unclear => false,
            Offer::Token(token) => self.knows_token(token),
            Offer::Password { user, password } => {
                self.knows_password(&user, &password).await.ok_or(Unauthorized::Busy)?
            }
        };
        if right { Ok(()) } else { Err(Unauthorized::Wrong) }
    }

    fn knows_token(&self, token: &[u8]) -> bool {
        // All of them, so that time does not tell which one is nearly right.
        self.tokens.iter().fold(false, |found, tag| self.is(token, tag) | found)
    }

    /// Compares in constant time.
    fn is(&self, secret: &[u8], tag: &hmac::Tag) -> bool {
        hmac::verify(&self.key, secret, tag.as_ref()).is_ok()
    }

    /// None where too many wait.
    async fn knows_password(self: &Arc<Self>, user: &str, password: &[u8]) -> Option<bool> {
        // One that is not known costs what a known one does: time does not tell names.
        let found = self.users.iter().position(|one| one.name == user);
        let Some(place) = found.or_else(|| self.dearest()) else { return Some(false) };
        let known =
            || found.is_some() && self.users[place].known.get().is_some_and(|tag| self.is(password, tag));
        if known() {
            return Some(true);
        }
        let _waits = self.places.try_acquire().ok()?;
        let Ok(turn) = self.checks.clone().acquire_owned().await else { return None };
        // The same one may have been checked meanwhile.
        if known() {
            return Some(true);
        }
        let (guard, password) = (self.clone(), password.to_vec());
        // A task of its own: a client that goes away neither ends the check nor the pause.
        let checked = tokio::spawn(async move {
            let _turn = turn;
            guard.check(place, password, found.is_some()).await
        });
        Some(checked.await.unwrap_or(false))
    }

    fn dearest(&self) -> Option<usize> {
        self.users.iter().enumerate().max_by_key(|(_, user)| user.cost).map(|(place, _)| place)
    }

    async fn check(self: Arc<Self>, place: usize, password: Vec<u8>, exists: bool) -> bool {
        let guard = self.clone();
        let began = Instant::now();
        let check = move || {
            let user = &guard.users[place];
            let fits = bcrypt::verify(&password, &user.hash).unwrap_or(false) && exists;
            if fits {
                let _known_already = user.known.set(hmac::sign(&guard.key, &password));
            }
            fits
        };
        let fits = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if !fits {
            tokio::time::sleep((began.elapsed() * WRONG_PAUSE_TIMES).max(WRONG_PAUSE_MIN)).await;
        }
        fits
    }
}

/// What a request names.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Offer<'a> {
    Nothing,
    /// Something that is not understood, or two things.
    Unclear,
    Token(&'a [u8]),
    Password {
        user: String,
        password: Vec<u8>,
    },
}

/// What the headers of a request name.
fn offer(headers: &HeaderMap) -> Offer<'_> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Offer::Nothing,
        (Some(line), None) => understand(line.as_bytes()),
        (Some(_), Some(_)) => Offer::Unclear,
    }
}

/// What a header `authorization` names.
#[must_use]
pub fn understand(line: &[u8]) -> Offer<'_> {
    let line = line.trim_ascii();
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return Offer::Unclear };
    let (scheme, rest) = (&line[..space], line[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        Offer::Token(rest)
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        password(rest).unwrap_or(Offer::Unclear)
    } else {
        Offer::Unclear
    }
}

fn password(encoded: &[u8]) -> Option<Offer<'static>> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(bytes[..colon].to_vec()).ok()?;
    Some(Offer::Password { user, password: bytes[colon + 1..].to_vec() })
}

/// The tokens in a file.
///
/// # Errors
/// What is wrong with which line, and never what is in it.
pub fn read_tokens(bytes: &[u8]) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    for (line, token) in secret::lines(bytes)? {
        // Of these a header can hold a token (RFC 6750): a line that is something else is a mistake.
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._~+/=".contains(letter);
        ensure!(
            token.chars().all(fits),
            "line {line} has characters that no token has: A-Z a-z 0-9 - . _ ~ + / ="
        );
        ensure!(
            token.len() >= TOKEN_CHARACTERS_MIN,
            "line {line} has {} characters, a token has at least {TOKEN_CHARACTERS_MIN} (`openssl rand -hex 32` makes one)",
            token.len()
        );
        tokens.push(token.to_owned());
    }
    ensure!(!tokens.is_empty(), "it has no token: nobody could ask");
    ensure!(tokens.len() <= TOKENS_MAX, "it has {} tokens, {TOKENS_MAX} are the most", tokens.len());
    Ok(tokens)
}

/// The users in a file.
///
/// # Errors
/// As [`read_tokens`].
pub fn read_users(bytes: &[u8]) -> Result<Vec<User>> {
    let mut users: Vec<User> = Vec::new();
    for (line, text) in secret::lines(bytes)? {
        let Some((name, hash)) = text.split_once(':') else { bail!("line {line} is no `name:hash`") };
        let parts: Option<HashParts> = hash.parse().ok();
        let Some(cost) = parts.filter(|_| hash.starts_with("$2")).map(|parts| parts.get_cost()) else {
            bail!("line {line} has no hash of bcrypt (`htpasswd -B` makes one: $2y$...)")
        };
        ensure!(
            COSTS.contains(&cost),
            "line {line} has a hash of cost {cost}, outside {} to {}",
            COSTS.start(),
            COSTS.end()
        );
        ensure!(!name.is_empty(), "line {line} has no name");
        ensure!(users.iter().all(|user| user.name != name), "line {line} has a name that stands above it");
        users.push(User { name: name.to_owned(), hash: hash.to_owned(), cost, known: OnceLock::new() });
    }
    ensure!(!users.is_empty(), "it has no user: nobody could ask");
    ensure!(users.len() <= USERS_MAX, "it has {} users, {USERS_MAX} are the most", users.len());
    Ok(users)
}

#[cfg(test)]
mod tests;
