//! Files that are right and wrong, and clients that are.

use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0123456789abcdef-one";
/// `sesame`, as `htpasswd -nbB -C 4` writes it.
fn hash() -> String {
    let parts = bcrypt::hash_with_result("sesame", 4).unwrap();
    parts.format_for_version(bcrypt::Version::TwoY)
}

fn guard(tokens: Option<&str>, users: Option<&str>) -> Result<Arc<Guard>> {
    let tokens = tokens.map(|text| read_tokens(text.as_bytes())).transpose()?;
    let users = users.map(|text| read_users(text.as_bytes())).transpose()?;
    Guard::new(tokens, users).map(Arc::new)
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::AUTHORIZATION, HeaderValue::from_str(line).unwrap());
    }
    headers
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn admit(guard: &Arc<Guard>, line: &str) -> Verdict {
    guard.admit(&headers(&[line])).await
}

type Verdict = Result<(), Unauthorized>;
const WRONG: Verdict = Err(Unauthorized::Wrong);

#[tokio::test]
async fn a_token_is_known_or_refused() {
    let guard = guard(Some(&format!("# new\n{TOKEN}\n\nanother-token-of-old\n")), None).unwrap();
    for (line, expected) in [
        (format!("Bearer {TOKEN}"), Ok(())),
        (format!("bearer   {TOKEN} "), Ok(())),
        ("Bearer another-token-of-old".to_owned(), Ok(())),
        (format!("Bearer {TOKEN}x"), WRONG),
        (format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]), WRONG),
        (format!("Bearer {}", TOKEN.to_uppercase()), WRONG),
        ("Bearer ".to_owned(), WRONG),
        ("Bearer".to_owned(), WRONG),
        ("Bearer # new".to_owned(), WRONG),
        (TOKEN.to_owned(), WRONG),
        (format!("Token {TOKEN}"), WRONG),
        (basic(TOKEN, TOKEN), WRONG),
        (basic("", ""), WRONG),
    ] {
        assert_eq!(admit(&guard, &line).await, expected, "{line}");
    }
    assert_eq!(guard.admit(&HeaderMap::new()).await, Err(Unauthorized::Missing));
    let twice = headers(&[&format!("Bearer {TOKEN}"), &format!("Bearer {TOKEN}")]);
    assert_eq!(guard.admit(&twice).await, WRONG);
    assert_eq!(guard.challenges(), [CHALLENGE_BEARER]);
}

#[tokio::test]
async fn a_password_is_known_or_refused() {
    let guard = guard(None, Some(&format!("ann:{}\nbob:{}\n", hash(), hash()))).unwrap();
    for (line, expected) in [
        (basic("ann", "sesame"), Ok(())),
        (basic("bob", "sesame"), Ok(())),
        (basic("ann", "sesam"), WRONG),
        (basic("ann", "sesame "), WRONG),
        (basic("ann", ""), WRONG),
        (basic("eve", "sesame"), WRONG),
        (basic("ann", &"x".repeat(5000)), WRONG),
        (basic("ann", &hash()), WRONG),
        (format!("Basic {}", STANDARD.encode("ann")), WRONG),
        ("Basic !!!".to_owned(), WRONG),
        ("Bearer sesame".to_owned(), WRONG),
        (basic("ann", "sesame"), Ok(())),
    ] {
        assert_eq!(admit(&guard, &line).await, expected, "{line}");
    }
    assert_eq!(guard.challenges(), [CHALLENGE_BASIC]);
}

#[tokio::test]
async fn either_of_both_will_do() {
    let guard = guard(Some(TOKEN), Some(&format!("ann:{}", hash()))).unwrap();
    assert_eq!(admit(&guard, &format!("Bearer {TOKEN}")).await, Ok(()));
    assert_eq!(admit(&guard, &basic("ann", "sesame")).await, Ok(()));
    assert_eq!(guard.challenges(), [CHALLENGE_BEARER, CHALLENGE_BASIC]);
}

#[tokio::test]
async fn a_password_that_was_right_is_checked_no_more() {
    let dear = bcrypt::hash("sesame", 10).unwrap();
    let guard = guard(None, Some(&format!("ann:{dear}"))).unwrap();
    let timed = async || {
        let began = Instant::now();
        assert_eq!(admit(&guard, &basic("ann", "sesame")).await, Ok(()));
        began.elapsed()
    };
    let first = timed().await;
    let mut later = Duration::MAX;
    for _ in 0..20 {
        later = later.min(timed().await);
    }
    assert!(later * 20 < first, "first {first:?}, later {later:?}");
}

/// However many guess, one password is checked at a time with a pause behind it; who is known is not held up.
#[tokio::test(start_paused = true)]
async fn guesses_are_slow_and_the_known_are_not_held_up() {
    let guard = guard(Some(TOKEN), Some(&format!("ann:{}", hash()))).unwrap();
    assert_eq!(admit(&guard, &basic("ann", "sesame")).await, Ok(()));
    let began = tokio::time::Instant::now();
    let mut guesses = tokio::task::JoinSet::new();
    for number in 0..40 {
        let guard = guard.clone();
        guesses.spawn(async move { admit(&guard, &basic("ann", &format!("guess {number}"))).await });
    }
    tokio::task::yield_now().await;
    assert_eq!(admit(&guard, &basic("ann", "sesame")).await, Ok(()));
    assert_eq!(admit(&guard, &format!("Bearer {TOKEN}")).await, Ok(()));
    assert!(began.elapsed() < WRONG_PAUSE_MIN);
    let verdicts = guesses.join_all().await;
    let count = |verdict| verdicts.iter().filter(|one| **one == verdict).count();
    assert_eq!((count(WRONG), count(Err(Unauthorized::Busy))), (WAITING_MAX + 1, 40 - WAITING_MAX - 1));
    assert!(began.elapsed() >= WRONG_PAUSE_MIN * (WAITING_MAX as u32 + 1), "{:?}", began.elapsed());
}

/// A client that does not wait for its answer gains nothing by it.
#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_the_pause_behind() {
    let guard = guard(None, Some(&format!("ann:{}", hash()))).unwrap();
    let guess = tokio::spawn({
        let guard = guard.clone();
        async move { admit(&guard, &basic("ann", "guess")).await }
    });
    while guard.checks.available_permits() == 1 {
        tokio::task::yield_now().await;
    }
    guess.abort();
    assert!(guess.await.is_err());
    let began = tokio::time::Instant::now();
    assert_eq!(admit(&guard, &basic("ann", "sesame")).await, Ok(()));
    assert!(began.elapsed() >= WRONG_PAUSE_MIN, "{:?}", began.elapsed());
}

#[test]
fn files_that_are_wrong_say_where_and_never_what() {
    let check = |outcome: Result<Arc<Guard>>, expected: &str| {
        let said = format!("{:#}", outcome.unwrap_err());
        assert!(said.contains(expected) && !said.contains("secret"), "{said}");
    };
    let tokens = |text: &str| guard(Some(text), None);
    check(tokens(""), "no token");
    check(tokens("# secret\n\n"), "no token");
    check(tokens("secret"), "line 1 has 6 characters");
    check(tokens("\nsecret secret secret"), "line 2 has characters that no token has");
    check(tokens("secret:secret-secret-secret"), "line 1 has characters");
    check(tokens(&format!("{TOKEN}\n").repeat(TOKENS_MAX + 1)), "65 tokens, 64 are the most");
    let users = |text: &str| guard(None, Some(text));
    check(users("\n"), "no user");
    check(users("secret"), "line 1 is no `name:hash`");
    check(users("ann:secret"), "line 1 has no hash of bcrypt");
    check(users("ann:$apr1$secret$secret"), "line 1 has no hash of bcrypt");
    check(users(&format!("ann:{}", hash().replace("$04$", "$31$"))), "cost 31, outside 4 to 14");
    check(users(&format!("ann:{}", hash().replace("$04$", "$99$"))), "line 1 has");
    check(users(&format!("ann:{0}\nann:{0}", hash())), "line 2 has a name that stands above it");
    check(users(&format!(":{}", hash())), "line 1 has no name");
    let error = Guard::read(Some(Path::new("/nowhere/t")), None).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("`export.bearer_token_file` /nowhere/t: open it: No such"),
        "{error:#}"
    );
    assert!(Guard::read(None, None).unwrap().is_none());
}

#[test]
fn nothing_secret_is_shown() {
    let guard = guard(Some(TOKEN), Some(&format!("ann:{}", hash()))).unwrap();
    let shown = format!("{guard:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("$2y$"), "{shown}");
}

proptest! {
    #[test]
    fn any_header_is_an_offer(bytes in prop::collection::vec(any::<u8>(), 0..200), scheme in 0..3_usize) {
        let scheme: &[u8] = [&b""[..], b"Basic ", b"Bearer "][scheme];
        if let Ok(value) = HeaderValue::from_bytes(&[scheme, &bytes].concat()) {
            let mut headers = HeaderMap::new();
            headers.append(header::AUTHORIZATION, value);
            prop_assert_ne!(offer(&headers), Offer::Nothing);
        }
    }

    #[test]
    fn what_is_offered_is_what_was_encoded(user in "[^:\\PC]{0,20}", password in ".{0,40}") {
        let headers = headers(&[&basic(&user, &password)]);
        prop_assert_eq!(offer(&headers), Offer::Password { user, password: password.into_bytes() });
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for token in read_tokens(&bytes).unwrap_or_default() {
            prop_assert!(token.len() >= TOKEN_CHARACTERS_MIN && HeaderValue::from_str(&token).is_ok());
        }
        let _refused_or_read = read_users(&bytes);
    }
}
