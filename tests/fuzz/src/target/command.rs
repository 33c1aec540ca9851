//! Command lines and labels: what a process calls itself, and what becomes a label.
//!
//! Input: the bytes of `/proc/TGID/cmdline`.

use inferscope::workload::labels::{LABEL_BYTES_MAX, is_label, label_text};
use inferscope::workload::pod::owner;
use inferscope::workload::process::{arguments, is_carrier, may_be_server, port, recognise, role};

/// The word, or its end, is this number.
fn says(word: &str, port: Option<u16>) -> bool {
    word.rsplit('=').next().is_some_and(|number| number.parse().ok() == port)
}

pub fn run(bytes: &[u8]) {
    let words = arguments(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(words.join("\0"), text.trim_end_matches('\0'));
    }
    // The quick look must not pass a server over.
    let server = recognise(&words);
    assert!(server.is_none() || may_be_server(bytes), "a server that the first look misses");
    if let Some(server) = server {
        assert!(!is_carrier(&words), "a program that carries others is taken for a server");
        // Of what runs: an interpreter in front of it has options of its own.
        assert!(server.port.is_none() || words.iter().any(|word| says(word, server.port)), "{server:?}");
        assert!(server.port.is_none() || port(&words[1..]).is_some(), "{server:?}");
        assert!(role(&words).is_some(), "a server without a role");
    }
    let text = String::from_utf8_lossy(bytes);
    let label = label_text(&text);
    assert!(is_label(&label), "{label:?}");
    assert_eq!(label_text(&label), label);
    assert!(!is_label(&text) || label == text);
    assert!(label.len() <= LABEL_BYTES_MAX);
    let owner = owner(&text);
    assert!(text.starts_with(owner) && (owner.is_empty() == text.is_empty()));
}
