//! What clients of the endpoint name themselves with, and the operator's files of tokens and users.
//!
//! Input: a byte that says which of the three, then its bytes.

use inferscope::export::auth::{Offer, read_tokens, read_users, understand};

use crate::input::Input;

/// Shortest token that is taken.
const TOKEN_BYTES_MIN: usize = 16;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let which = input.byte() % 3;
    let rest = input.rest();
    match which {
        0 => header(rest),
        1 => {
            for token in read_tokens(rest).unwrap_or_default() {
                assert!(token.len() >= TOKEN_BYTES_MIN);
                let line = format!("bEARER  {token} ");
                let Offer::Token(named) = understand(line.as_bytes()) else { panic!("a token can be named") };
                assert_eq!(named, token.as_bytes());
            }
        }
        _ => {
            let users = read_users(rest).unwrap_or_default();
            for (place, user) in users.iter().enumerate() {
                assert!(!user.name().is_empty() && !user.name().contains(':'));
                assert!(users[..place].iter().all(|other| other.name() != user.name()), "a name stands once");
            }
        }
    }
}

fn header(line: &[u8]) {
    match understand(line) {
        Offer::Nothing => panic!("a header is something"),
        Offer::Unclear => {}
        Offer::Token(token) => {
            assert!(line.len() > token.len() + "bearer".len() && token.trim_ascii() == token);
        }
        Offer::Password { user, password } => {
            assert!(!user.contains(':') && (user.len() + password.len()) * 4 / 3 <= line.len());
        }
    }
}
