//! What holds clocks down: for how long so far, and whether now.
//!
//! In: field values, else violation times, and the reasons of this moment. Out: causes that do not overlap: heat is
//! counted by hardware and software apart where the driver does, else as one.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::PerformancePolicy;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};

use super::ask::Asker;
use super::fields::Fields;
use crate::gpu::source::{Failure, Throttle, ThrottleCause};

/// Fields that count nanoseconds since the driver was loaded, by the numbers before driver 580.82.
pub(super) const FIELDS: [u32; 8] = [POWER, THERMAL, SYNC, BOARD, RELIABILITY, SW_THERMAL, HW_THERMAL, BRAKE];
const POWER: u32 = 74;
const THERMAL: u32 = 75;
const SYNC: u32 = 76;
const BOARD: u32 = 77;
const RELIABILITY: u32 = 79;
const SW_THERMAL: u32 = 251;
const HW_THERMAL: u32 = 252;
const BRAKE: u32 = 253;

/// A question by the older call.
type Older = (&'static str, PerformancePolicy);

/// The causes that a field counts, and the older call for the same.
const COUNTED: [(ThrottleCause, u32, Option<Older>); 8] = [
    (ThrottleCause::PowerCap, POWER, Some(("violation: power", PerformancePolicy::Power))),
    (ThrottleCause::Thermal, THERMAL, Some(("violation: thermal", PerformancePolicy::Thermal))),
    (ThrottleCause::SyncBoost, SYNC, Some(("violation: sync boost", PerformancePolicy::SyncBoost))),
    (ThrottleCause::BoardLimit, BOARD, Some(("violation: board limit", PerformancePolicy::BoardLimit))),
    (
        ThrottleCause::Reliability,
        RELIABILITY,
        Some(("violation: reliability", PerformancePolicy::Reliability)),
    ),
    (ThrottleCause::SwThermal, SW_THERMAL, None),
    (ThrottleCause::HwThermal, HW_THERMAL, None),
    (ThrottleCause::PowerBrake, BRAKE, None),
];

/// Bits of the reasons; the wrapper drops those that came later than it.
const REASON_HW: u64 = 0x8;
const REASONS: [(ThrottleCause, u64); 7] = [
    (ThrottleCause::PowerCap, 0x4),
    (ThrottleCause::SyncBoost, 0x10),
    (ThrottleCause::SwThermal, 0x20),
    (ThrottleCause::HwThermal, 0x40),
    (ThrottleCause::PowerBrake, 0x80),
    (ThrottleCause::BoardLimit, 0x200),
    (ThrottleCause::Reliability, 0x400),
];
/// Causes by which the hardware slows down, each with a bit of its own besides [`REASON_HW`].
const HW_CAUSES: u64 = 0x40 | 0x80;

/// # Errors
/// The GPU or the library is gone.
pub(super) fn read(asker: &mut Asker, fields: &Fields) -> Result<Throttle, Failure> {
    let mut throttle = Throttle::default();
    for (cause, field, older) in COUNTED {
        let counted = match (fields.whole(field), older) {
            (Some(lost), _) => Some(lost),
            (None, Some((what, policy))) => {
                asker.ask(what, |device| device.violation_status(policy))?.map(|time| time.violation_time)
            }
            (None, None) => None,
        };
        throttle.lost_ns[cause as usize] = counted;
    }
    if let Some(reasons) = reasons(asker)? {
        throttle.now = now(reasons);
    }
    one_heat(&mut throttle);
    Ok(throttle)
}

fn reasons(asker: &mut Asker) -> Result<Option<u64>, Failure> {
    const NEW: &str = "clocks event reasons";
    let answer = asker.ask(NEW, |device| raw_reasons(device, true))?;
    if answer.is_some() || !asker.is_absent(NEW) {
        return Ok(answer);
    }
    asker.ask("clocks throttle reasons", |device| raw_reasons(device, false))
}

/// By the name that the call has had since CUDA 12.2, or by the older one.
fn raw_reasons(device: &Device<'_>, new: bool) -> Result<u64, NvmlError> {
    let lib = device.nvml().lib();
    let get = if new {
        nvml_sym(lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref())?
    } else {
        nvml_sym(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref())?
    };
    let mut reasons = 0;
    // SAFETY: the handle is of this library, which writes one number.
    nvml_try(unsafe { get(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

fn now(reasons: u64) -> [Option<bool>; ThrottleCause::ALL.len()] {
    let mut now = [None; ThrottleCause::ALL.len()];
    for (cause, bit) in REASONS {
        now[cause as usize] = Some(reasons & bit != 0);
    }
    now[ThrottleCause::HwSlowdown as usize] = Some(reasons & REASON_HW != 0 && reasons & HW_CAUSES == 0);
    now
}

/// Heat is told either as one, or apart, never both: who sums causes would count it twice. Apart is better, and needs
/// both counters; where only the sum is counted, it is all.
fn one_heat(throttle: &mut Throttle) {
    let [sw, hw, both] = [ThrottleCause::SwThermal, ThrottleCause::HwThermal, ThrottleCause::Thermal]
        .map(|cause| cause as usize);
    let apart = throttle.lost_ns[sw].is_some() && throttle.lost_ns[hw].is_some();
    if apart || throttle.lost_ns[both].is_none() {
        throttle.lost_ns[both] = None;
        return;
    }
    let hot = throttle.now[sw].zip(throttle.now[hw]).map(|(sw, hw)| sw || hw);
    for cause in [sw, hw] {
        (throttle.now[cause], throttle.lost_ns[cause]) = (None, None);
    }
    throttle.now[both] = hot;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_causes_that_do_not_overlap() {
        let active = |reasons: u64| -> Vec<&str> {
            let now = now(reasons);
            let all = ThrottleCause::ALL.into_iter().filter(|&cause| now[cause as usize] == Some(true));
            all.map(ThrottleCause::label).collect()
        };
        for (reasons, expected) in [
            (0, &[][..]),
            (0x1 | 0x2 | 0x100, &[]),
            (0x4, &["power_cap"]),
            (0x8, &["hw_slowdown"]),
            (0x8 | 0x40, &["hw_thermal"]),
            (0x8 | 0x80, &["power_brake"]),
            (0x20 | 0x10, &["sw_thermal", "sync_boost"]),
            (0x200 | 0x400, &["board_limit", "reliability"]),
            (1 << 40, &[]),
        ] {
            assert_eq!(active(reasons), expected, "{reasons:#x}");
        }
        assert_eq!(now(0)[ThrottleCause::Thermal as usize], None);
    }

    #[test]
    fn heat_is_counted_once() {
        let of = |sw: Option<u64>, hw: Option<u64>, both: Option<u64>| {
            let mut throttle = Throttle { now: now(0x40), ..Throttle::default() };
            for (cause, lost) in [
                (ThrottleCause::SwThermal, sw),
                (ThrottleCause::HwThermal, hw),
                (ThrottleCause::Thermal, both),
            ] {
                throttle.lost_ns[cause as usize] = lost;
            }
            one_heat(&mut throttle);
            let get = |cause: ThrottleCause| (throttle.now[cause as usize], throttle.lost_ns[cause as usize]);
            [ThrottleCause::SwThermal, ThrottleCause::HwThermal, ThrottleCause::Thermal].map(get)
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(of(Some(1), Some(2), Some(3)), [(no, Some(1)), (yes, Some(2)), (None, None)]);
        assert_eq!(of(None, None, Some(3)), [(None, None), (None, None), (yes, Some(3))]);
        assert_eq!(of(Some(1), None, Some(3)), [(None, None), (None, None), (yes, Some(3))]);
        assert_eq!(of(None, None, None), [(no, None), (yes, None), (None, None)]);
    }
}
