//! How a test that this machine cannot run says so.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Says on standard output why the present test does not run, and in the file that
/// `XTASK_SKIP_LOG` names. The test returns right after.
///
/// # Panics
///
/// Where `XTASK_TEST_REQUIRE` is `all`: there a skip is a failure. Where the file cannot be written:
/// a skip that nobody reads of would pass for a success.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    let required = env::var("XTASK_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!required, "skipped where every test is required: {reason}");
    if let Some(path) = env::var_os("XTASK_SKIP_LOG") {
        // The test runner names the thread of a test after it.
        let thread = std::thread::current();
        let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skipped tests is writable");
    }
}
