//! The `Accept` header of a scraper.
//!
//! Input: whether protobuf is offered, then the header.

use inferscope::export::negotiate::{Format, negotiate};

use crate::input::Input;

/// Media ranges that are looked at.
const RANGES_MAX: usize = 32;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let offered = input.byte() & 1 == 1;
    let Ok(accept) = std::str::from_utf8(input.rest()) else { return };
    let format = negotiate(accept, offered);
    let names = |part: &str| accept.to_ascii_lowercase().contains(part);
    match format {
        Format::Protobuf => assert!(offered && names("application/vnd.google.protobuf")),
        Format::OpenMetrics => assert!(names("application/openmetrics-text")),
        Format::Text => {}
    }
    assert_eq!(negotiate(&accept.to_ascii_uppercase(), offered), format, "letters are of either case");
    if accept.split(',').count() < RANGES_MAX {
        let refused = "application/openmetrics-text;q=0";
        assert_eq!(negotiate(&format!("{refused},{accept}"), offered), format, "q=0 is never");
        assert_eq!(
            negotiate(&format!("{accept},image/png;q=1"), offered),
            format,
            "what is unknown is passed over"
        );
    }
    let cut: Vec<&str> = accept.split(',').take(RANGES_MAX).collect();
    assert_eq!(negotiate(&cut.join(","), offered), format, "ranges beyond the limit are not read");
    assert_ne!(negotiate(accept, false), Format::Protobuf);
}
