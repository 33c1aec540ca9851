//! The end of a document whose middle was not copied: walked backwards from its last byte.
//!
//! In: the last bytes of the document and the scanner as it stood before the hole. Out: where in those
//! bytes a scanner may go on, and that scanner. Walking from the end, every quote is known to open or
//! close: inside a text it follows an odd number of backslashes, the one that opens it follows none. So
//! no text can pass for structure, whatever stands in it.

use memchr::memrchr;

use super::json::Scanner;

/// Containers around the end that are followed; one bit each.
const DEPTH_MAX: usize = 128;

/// The earliest place behind a comma from which the rest of the document can be scanned forwards.
pub fn resume(bytes: &[u8], before: &Scanner) -> Option<(usize, Scanner)> {
    let mut depth = 0;
    let mut arrays = 0_u128;
    let mut found = None;
    let mut end = bytes.trim_ascii_end().len();
    if !matches!(bytes.get(end.checked_sub(1)?)?, b'}' | b']') {
        return None;
    }
    while end > 0 {
        end -= 1;
        match bytes[end] {
            b'"' => match opening_quote(&bytes[..end]) {
                Some(at) => end = at,
                None => break,
            },
            closer @ (b'}' | b']') if depth < DEPTH_MAX => {
                arrays = arrays & !(1 << depth) | u128::from(closer == b']') << depth;
                depth += 1;
            }
            opener @ (b'{' | b'[') if depth > 0 => {
                depth -= 1;
                if (arrays >> depth & 1 == 1) != (opener == b'[') {
                    return None;
                }
                if depth == 0 {
                    break;
                }
            }
            b'{' | b'[' | b'}' | b']' => return None,
            b',' if depth > 0 => found = Some((end + 1, depth, arrays)),
            _ => {}
        }
    }
    found.map(|(at, depth, arrays)| (at, before.resumed(depth, arrays)))
}

/// Place of the quote that opens the text which ends where `bytes` ends.
fn opening_quote(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    loop {
        let at = memrchr(b'"', &bytes[..end])?;
        let before = &bytes[..at];
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        // Backslashes up to the hole: there may be more of them in it.
        if backslashes > 0 && backslashes == at {
            return None;
        }
        if backslashes % 2 == 0 {
            return Some(at);
        }
        end = at;
    }
}
