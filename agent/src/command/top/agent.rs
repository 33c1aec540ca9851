//! An agent that is asked: where it serves, and what to do where it does not answer.
//!
//! In: an address of the operator's. Out: the bytes of its pages, or one sentence that says what failed, why, and what to
//! do; what others said may be in it, so it is cleaned before a terminal sees it.

use crate::export::PORT;
use crate::http_client::{Address, Failure, Limits, Server, StatusCode, Why, get};

const EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:9940";
const START: &str =
    "start the agent there (`inferscope run`), or name the address that it listens on (`export.listen`)";
const LATE: &str = "the node may be short of processor time or the network slow: try again";
const OTHER: &str = "name the address of an inferscope agent, whose port is 9940 unless `export.listen` says otherwise, with https:// \
     where it serves TLS";
const NAMELESS: &str = "name a token (`--token-file`) or a user (`--user-file`) that the agent knows (`export.bearer_token_file`, \
     `export.basic_auth_file`)";
const TLS: &str = "name whoever signed its certificate (`--ca`), the host as the certificate has it, and your own certificate \
                   (`--certificate`, `--key`) where it asks for one; or http:// where it serves no TLS";
const OLDER: &str = "name an inferscope agent that is at least as new as this program";

/// The address of an agent.
///
/// # Errors
/// The text is none.
pub fn address(text: &str) -> Result<Address, String> {
    Address::parse(text, PORT).map_err(|why| format!("{why}; {EXPECTED}"))
}

/// The pages at `paths` of an agent.
///
/// # Errors
/// One of them cannot be had.
pub async fn ask(server: &Server, paths: &[&str], limits: Limits) -> Result<Vec<Vec<u8>>, String> {
    get(server, paths, "application/json", limits).await.map_err(|failure| told(&failure))
}

/// That what `path` answers is not what an agent would.
#[must_use]
pub fn not_understood(server: &Server, path: &str, why: &str) -> String {
    sentence(&format!("{server}{path}"), why, OTHER)
}

fn told(Failure { url, why }: &Failure) -> String {
    let remedy = match why {
        Why::Connect(_) => START,
        Why::Tls(_) => TLS,
        Why::Late(_) | Why::Broken(_) => LATE,
        Why::Status(status, _) if *status == StatusCode::UNAUTHORIZED => NAMELESS,
        Why::Status(status, _) if *status == StatusCode::NOT_FOUND => OLDER,
        Why::Status(status, _) if status.is_server_error() => LATE,
        Why::NotHttp | Why::Closed | Why::TooLong(_) | Why::Status(..) => OTHER,
    };
    let why = match why {
        Why::Status(_, said) => format!("{why}{}", reason(said)),
        _ => why.to_string(),
    };
    sentence(url, &why, remedy)
}

fn sentence(url: &str, why: &str, remedy: &str) -> String {
    format!("no answer of an agent from {url}: {why}; {remedy}")
}

/// An agent says in JSON why its answer is no page.
fn reason(said: &[u8]) -> String {
    let said: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
    said["error"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_is_an_agents_or_refused_with_an_example() {
        assert_eq!(address("gpu-7").unwrap().to_string(), "http://gpu-7:9940");
        assert_eq!(address("https://gpu-7").unwrap().to_string(), "https://gpu-7:9940");
        for text in ["", "ftp://gpu-7", "gpu 7"] {
            let error = address(text).unwrap_err();
            assert!(error.contains("http://127.0.0.1:9940"), "{text}: {error}");
        }
    }

    #[test]
    fn every_failure_says_what_to_do() {
        let check = |why: Why, said: &str, remedy: &str| {
            let told = told(&Failure { url: "http://a:1/page".to_owned(), why });
            assert_eq!(told, format!("no answer of an agent from http://a:1/page: {said}; {remedy}"));
        };
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        check(Why::Connect(refused), "Connection refused (os error 111)", START);
        check(Why::Late(Duration::from_millis(300)), "there was no whole answer within 0.3 s", LATE);
        check(Why::NotHttp, "what answers there does not speak HTTP/1.1", OTHER);
        check(Why::Closed, "the connection was closed before the answer was complete", OTHER);
        check(Why::Broken("it broke".to_owned()), "it broke", LATE);
        check(Why::TooLong(9), "its answer is longer than 9 bytes", OTHER);
        let status = |status, said: &[u8]| Why::Status(status, said.to_vec());
        check(status(StatusCode::NOT_FOUND, b""), "it answered 404 Not Found", OLDER);
        check(status(StatusCode::UNAUTHORIZED, b""), "it answered 401 Unauthorized", NAMELESS);
        let tls = io::Error::other("invalid peer certificate: UnknownIssuer");
        check(Why::Tls(tls), "no TLS with it: invalid peer certificate: UnknownIssuer", TLS);
        check(status(StatusCode::FORBIDDEN, b"{\"error\":1}"), "it answered 403 Forbidden", OTHER);
        let busy = status(StatusCode::SERVICE_UNAVAILABLE, b"{\"error\":\"too many connections\"}");
        check(busy, "it answered 503 Service Unavailable (too many connections)", LATE);
    }
}
