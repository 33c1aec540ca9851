//! How a test that this machine cannot run says so.

/// Returned by a test that was skipped, so that it reads `return skip(..)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip;

/// Says on standard output why a test did not run.
///
/// # Panics
///
/// Where `INFERSCOPE_TEST_REQUIRE` is `all`: there a skip is a failure.
pub fn skip(reason: &str) -> Skip {
    println!("SKIPPED: {reason}");
    let required = std::env::var("INFERSCOPE_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "skipped where every test is required: {reason}");
    Skip
}
