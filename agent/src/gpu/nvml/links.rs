//! NVLink: links that are up, and the errors of all together.
//!
//! In: fields of the totals, else the counters of each link. Out: one [`NvLink`], or none on a card without.

use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;

use super::ask::Asker;
use super::fields::Fields;
use crate::gpu::source::{Failure, NvLink};

pub(super) const FIELDS: [u32; 4] = [CRC, REPLAYS, RECOVERIES, LINKS];
const CRC: u32 = 38;
const REPLAYS: u32 = 52;
const RECOVERIES: u32 = 59;
const LINKS: u32 = 91;

/// Links of one GPU, at most (`NVML_NVLINK_MAX_LINKS`).
const LINKS_MAX: u32 = 18;

pub(super) fn read(asker: &mut Asker, fields: &Fields) -> Result<Option<NvLink>, Failure> {
    const UP: &str = "NVLink state";
    let mut up = Vec::new();
    let mut known = false;
    for link in 0..fields.whole(LINKS).unwrap_or(LINKS_MAX).min(LINKS_MAX) {
        // A link that a card lacks is no word on the others, but on the first of them.
        let answer = asker.ask_part(UP, link == 0, |device| device.link_wrapper_for(link).is_active())?;
        known |= answer.is_some();
        if answer == Some(true) {
            up.push(link);
        }
        if asker.is_absent(UP) {
            return Ok(None);
        }
    }
    if !known {
        return Ok(None);
    }
    let mut total = |field, what, counter: ErrorCounter| match fields.whole(field) {
        Some(total) => Ok(Some(total)),
        None => sum(asker, what, &up, counter),
    };
    Ok(Some(NvLink {
        links_active: u32::try_from(up.len()).unwrap_or(LINKS_MAX),
        replay_errors: total(REPLAYS, "NVLink replays", ErrorCounter::DlReplay)?,
        recovery_errors: total(RECOVERIES, "NVLink recoveries", ErrorCounter::DlRecovery)?,
        crc_errors: total(CRC, "NVLink CRC errors", ErrorCounter::DlCrcFlit)?,
    }))
}

/// `None` where a link does not tell: a sum without it would go back.
fn sum(
    asker: &mut Asker,
    what: &'static str,
    links: &[u32],
    counter: ErrorCounter,
) -> Result<Option<u64>, Failure> {
    let mut total = 0u64;
    for &link in links {
        let count = asker.ask(what, |device| device.link_wrapper_for(link).error_counter(counter))?;
        let Some(count) = count else { return Ok(None) };
        total = total.saturating_add(count);
    }
    Ok(Some(total))
}
