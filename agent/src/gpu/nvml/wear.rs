//! What goes wrong with memory and links of a card, and what its link to the machine does.
//!
//! In: fields, else the older calls. Out: counts. These change rarely, and some take their time: asked every few seconds.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, PcieUtilCounter, RetirementCause};
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};

use super::ask::Asker;
use super::fields::Fields;
use crate::gpu::source::{Ecc, EccCounts, Failure, Pcie, RemappedRows, RetiredPages};

/// Fields that are asked every few seconds.
pub(super) const FIELDS: [u32; 12] = [
    ECC_VOLATILE_CORRECTED,
    ECC_VOLATILE_UNCORRECTED,
    ECC_AGGREGATE_CORRECTED,
    ECC_AGGREGATE_UNCORRECTED,
    RETIRED_CORRECTED,
    RETIRED_UNCORRECTED,
    RETIRED_PENDING,
    PCIE_REPLAYS,
    REMAPPED_CORRECTED,
    REMAPPED_UNCORRECTED,
    REMAPPED_PENDING,
    REMAPPED_FAILED,
];
const ECC_VOLATILE_CORRECTED: u32 = 3;
const ECC_VOLATILE_UNCORRECTED: u32 = 4;
const ECC_AGGREGATE_CORRECTED: u32 = 5;
const ECC_AGGREGATE_UNCORRECTED: u32 = 6;
const RETIRED_CORRECTED: u32 = 29;
const RETIRED_UNCORRECTED: u32 = 30;
const RETIRED_PENDING: u32 = 31;
const PCIE_REPLAYS: u32 = 94;
const REMAPPED_CORRECTED: u32 = 142;
const REMAPPED_UNCORRECTED: u32 = 143;
const REMAPPED_PENDING: u32 = 144;
const REMAPPED_FAILED: u32 = 145;

/// The driver tells throughput in thousands of bytes.
const KILO: u64 = 1000;

pub(super) fn ecc(asker: &mut Asker, fields: &Fields) -> Result<Ecc, Failure> {
    let volatile = [ECC_VOLATILE_CORRECTED, ECC_VOLATILE_UNCORRECTED];
    let aggregate = [ECC_AGGREGATE_CORRECTED, ECC_AGGREGATE_UNCORRECTED];
    Ok(Ecc {
        volatile: ecc_counts(asker, fields, volatile, EccCounter::Volatile, VOLATILE_ERRORS)?,
        aggregate: ecc_counts(asker, fields, aggregate, EccCounter::Aggregate, AGGREGATE_ERRORS)?,
    })
}

const VOLATILE_ERRORS: [&str; 2] = ["volatile corrected errors", "volatile uncorrected errors"];
const AGGREGATE_ERRORS: [&str; 2] = ["aggregate corrected errors", "aggregate uncorrected errors"];

fn ecc_counts(
    asker: &mut Asker,
    fields: &Fields,
    [corrected, uncorrected]: [u32; 2],
    since: EccCounter,
    [what_corrected, what_uncorrected]: [&'static str; 2],
) -> Result<Option<EccCounts>, Failure> {
    let mut count = |field, what, kind| match fields.whole(field) {
        Some(count) => Ok(Some(count)),
        None => asker.ask(what, |device| device.total_ecc_errors(kind, since)),
    };
    let corrected = count(corrected, what_corrected, MemoryError::Corrected)?;
    let uncorrected = count(uncorrected, what_uncorrected, MemoryError::Uncorrected)?;
    Ok(corrected.zip(uncorrected).map(|(corrected, uncorrected)| EccCounts { corrected, uncorrected }))
}

pub(super) fn remapped(asker: &mut Asker, fields: &Fields) -> Result<Option<RemappedRows>, Failure> {
    let counts = fields.whole(REMAPPED_CORRECTED).zip(fields.whole(REMAPPED_UNCORRECTED));
    let states = fields.whole::<u32>(REMAPPED_PENDING).zip(fields.whole::<u32>(REMAPPED_FAILED));
    match counts.zip(states) {
        Some(((corrected, uncorrected), (pending, failed))) => {
            Ok(Some(RemappedRows { corrected, uncorrected, pending: pending != 0, failed: failed != 0 }))
        }
        None => asker.ask("remapped rows", raw_remapped),
    }
}

fn raw_remapped(device: &Device<'_>) -> Result<RemappedRows, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: the handle is of this library, which writes four numbers.
    nvml_try(unsafe {
        get(device.handle(), &raw mut corrected, &raw mut uncorrected, &raw mut pending, &raw mut failed)
    })?;
    Ok(RemappedRows { corrected, uncorrected, pending: pending != 0, failed: failed != 0 })
}

pub(super) fn retired(asker: &mut Asker, fields: &Fields) -> Result<Option<RetiredPages>, Failure> {
    let mut count = |field, what, cause: RetirementCause| match fields.whole(field) {
        Some(count) => Ok(Some(count)),
        None => {
            let pages = asker.ask(what, |device| device.retired_pages(cause))?;
            Ok(pages.and_then(|pages| u32::try_from(pages.len()).ok()))
        }
    };
    let (single, double) = (RetirementCause::MultipleSingleBitEccErrors, RetirementCause::DoubleBitEccError);
    let corrected = count(RETIRED_CORRECTED, "pages retired for corrected errors", single)?;
    let uncorrected = count(RETIRED_UNCORRECTED, "pages retired for uncorrected errors", double)?;
    let Some((corrected, uncorrected)) = corrected.zip(uncorrected) else { return Ok(None) };
    let pending = match fields.whole::<u32>(RETIRED_PENDING) {
        Some(pending) => Some(pending != 0),
        None => asker.ask("pages to be retired", |gpu| gpu.are_pages_pending_retired())?,
    };
    Ok(Some(RetiredPages { corrected, uncorrected, pending }))
}

pub(super) fn pcie(asker: &mut Asker, fields: &Fields) -> Result<Pcie, Failure> {
    let replays = match fields.whole(PCIE_REPLAYS) {
        Some(replays) => Some(replays),
        None => asker.ask("PCIe replays", |gpu| gpu.pcie_replay_counter())?.map(u64::from),
    };
    let mut throughput = |what, direction| -> Result<Option<u64>, Failure> {
        let kilobytes = asker.ask(what, |device| device.pcie_throughput(direction))?;
        Ok(kilobytes.map(|kilobytes| u64::from(kilobytes) * KILO))
    };
    Ok(Pcie {
        sent_bytes_per_second: throughput("PCIe throughput (sent)", PcieUtilCounter::Send)?,
        received_bytes_per_second: throughput("PCIe throughput (received)", PcieUtilCounter::Receive)?,
        replays,
        generation: asker.ask("PCIe generation", |gpu| gpu.current_pcie_link_gen())?,
        generation_max: asker.ask("PCIe generation, at most", |gpu| gpu.max_pcie_link_gen())?,
        width: asker.ask("PCIe width", |gpu| gpu.current_pcie_link_width())?,
        width_max: asker.ask("PCIe width, at most", |gpu| gpu.max_pcie_link_width())?,
    })
}
