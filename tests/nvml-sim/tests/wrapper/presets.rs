//! The scenarios that come with the library, each at the times that it is about.

use std::time::Duration;

use nvml_sim::Cause;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, MemoryLocation, PcieUtilCounter, PerformancePolicy, RetirementCause,
    TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::struct_wrappers::event::EventData;

use super::{open, open_preset};

fn is_not_supported<T>(answer: &Result<T, NvmlError>) -> bool {
    matches!(answer, Err(NvmlError::NotSupported))
}

#[test]
fn two_gpus_are_read_whole() {
    let opened = open_preset("two", 2.0);
    let nvml = &opened.nvml;
    assert_eq!(nvml.device_count().unwrap(), 2);
    assert_eq!(nvml.sys_driver_version().unwrap(), "575.57.08");
    assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 12_090);
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.name().unwrap(), "NVIDIA H100 80GB HBM3");
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 45);
    assert_eq!(device.temperature_threshold(TemperatureThreshold::Slowdown).unwrap(), 87);
    assert_eq!(device.temperature_threshold(TemperatureThreshold::Shutdown).unwrap(), 92);
    assert_eq!(device.power_usage().unwrap(), 320_000);
    let constraints = device.power_management_limit_constraints().unwrap();
    assert_eq!((constraints.min_limit, constraints.max_limit), (200_000, 700_000));
    assert_eq!(device.clock_info(Clock::SM).unwrap(), 1980);
    assert_eq!(device.max_clock_info(Clock::Memory).unwrap(), 2619);
    assert_eq!(device.utilization_rates().unwrap().gpu, 60);
    let memory = device.memory_info().unwrap();
    assert_eq!(memory.used, 60 << 30);
    assert_eq!(memory.used + memory.free + memory.reserved, memory.total);
    assert_eq!(device.pcie_throughput(PcieUtilCounter::Send).unwrap(), 120_000);
    assert_eq!((device.current_pcie_link_gen().unwrap(), device.max_pcie_link_width().unwrap()), (5, 16));
    assert_eq!(device.current_throttle_reasons().unwrap(), ThrottleReasons::empty());
    assert!(is_not_supported(&device.fan_speed(0)));
    assert_eq!(device.pci_info().unwrap().bus_id, "00000000:10:00.0");
    assert_eq!(device.minor_number().unwrap(), 0);
    assert_eq!(device.mig_mode().unwrap().current, 0);
    let uuid = device.uuid().unwrap();
    assert_eq!(nvml.device_by_uuid(uuid.as_str()).unwrap().index().unwrap(), 0);
    opened.bracketed(|gpu| gpu.energy_millijoules().unwrap(), || device.total_energy_consumption().unwrap());
    let idle = nvml.device_by_index(1).unwrap();
    assert_eq!(idle.current_throttle_reasons().unwrap(), ThrottleReasons::GPU_IDLE);
}

#[test]
fn a_gpu_that_heats_up_is_held_down_and_says_for_how_long() {
    let opened = open_preset("heating", 17.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    let degrees = |gpu: nvml_sim::GpuAt<'_>| gpu.temperature().unwrap().unsigned_abs().into();
    opened.bracketed(degrees, || device.temperature(TemperatureSensor::Gpu).unwrap().into());
    assert_eq!(device.clock_info(Clock::SM).unwrap(), 1980);
    assert_eq!(device.violation_status(PerformancePolicy::Thermal).unwrap().violation_time, 0);
    let opened = open_preset("heating", 27.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    let reasons = device.current_throttle_reasons().unwrap();
    let by_heat = ThrottleReasons::SW_THERMAL_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN;
    assert_eq!(reasons, by_heat | ThrottleReasons::HW_SLOWDOWN);
    assert_eq!(device.clock_info(Clock::Graphics).unwrap(), 795);
    let thermal = || device.violation_status(PerformancePolicy::Thermal).unwrap().violation_time;
    opened.bracketed(|gpu| gpu.thermal_ns(), thermal);
    let (since_sw, since_hw) =
        (thermal(), opened.installed.now().gpu(0).unwrap().throttled_ns(Cause::HwThermal));
    assert!((7_000_000_000..9_000_000_000).contains(&since_sw), "{since_sw}");
    assert!((1_000_000_000..3_000_000_000).contains(&since_hw), "{since_hw}");
}

#[test]
fn a_lower_power_limit_is_met_and_energy_is_the_integral() {
    let opened = open_preset("power_cap", 15.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    assert_eq!(device.enforced_power_limit().unwrap(), 400_000);
    assert_eq!(device.power_usage().unwrap(), 400_000);
    assert_eq!(device.current_throttle_reasons().unwrap(), ThrottleReasons::SW_POWER_CAP);
    opened.bracketed(|gpu| gpu.energy_millijoules().unwrap(), || device.total_energy_consumption().unwrap());
    let lost = || device.violation_status(PerformancePolicy::Power).unwrap().violation_time;
    opened.bracketed(|gpu| gpu.throttled_ns(Cause::PowerCap), lost);
    // 10 s of 620 W and 5 s of 400 W, and what this test took since.
    let joules = device.total_energy_consumption().unwrap() / 1000;
    assert!((8200..8200 + 4000).contains(&joules), "{joules}");
}

#[test]
fn memory_errors_and_what_was_done_about_them() {
    let opened = open_preset("ecc", 12.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    assert!(device.is_ecc_enabled().unwrap().currently_enabled);
    let errors = |error, counter| device.total_ecc_errors(error, counter).unwrap();
    assert_eq!(errors(MemoryError::Corrected, EccCounter::Volatile), 7);
    assert_eq!(errors(MemoryError::Corrected, EccCounter::Aggregate), 127);
    assert_eq!(errors(MemoryError::Uncorrected, EccCounter::Volatile), 2);
    assert_eq!(errors(MemoryError::Uncorrected, EccCounter::Aggregate), 3);
    let of = |location| {
        device.memory_error_counter(MemoryError::Corrected, EccCounter::Volatile, location).unwrap()
    };
    assert_eq!((of(MemoryLocation::Device), of(MemoryLocation::L2Cache)), (7, 0));
    assert!(is_not_supported(&device.retired_pages(RetirementCause::DoubleBitEccError)));
    let mut rows = [9; 4];
    let [corrected, uncorrected, pending, failed] = &mut rows;
    // SAFETY: the handle is of this library, each place has room for its number.
    let code = unsafe {
        let lib = opened.nvml.lib();
        lib.nvmlDeviceGetRemappedRows(device.handle(), corrected, uncorrected, pending, failed)
    };
    assert_eq!((code, rows), (0, [1, 1, 1, 0]));
}

fn xid(event: &EventData<'_>) -> u64 {
    match event.event_data.as_ref().unwrap() {
        XidError::Value(code) => *code,
        XidError::Unknown => 999,
    }
}

#[test]
fn every_fault_of_a_burst_is_told_in_its_order() {
    let opened = open_preset("xid_burst", 3.0);
    let set = opened.nvml.create_event_set().unwrap();
    let first = opened.nvml.device_by_index(0).unwrap();
    let set =
        first.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));
    let codes: Vec<u64> = (0..41).map(|_| xid(&set.wait(6000).unwrap())).collect();
    assert_eq!(codes.iter().filter(|code| **code == 31).count(), 40);
    assert_eq!(codes.iter().position(|code| *code == 94), Some(21));
    assert!(matches!(set.wait(100), Err(NvmlError::Timeout)));
    assert_eq!(opened.installed.now().gpu(0).unwrap().xids(31), 40);
    set.release_events().unwrap();
}

#[test]
fn instances_of_a_split_gpu_have_memory_and_users_of_their_own() {
    let opened = open_preset("mig", 8.0);
    let whole = opened.nvml.device_by_index(0).unwrap();
    assert_eq!(whole.mig_mode().unwrap().current, 1);
    assert_eq!(whole.mig_device_count().unwrap(), 7);
    assert!(is_not_supported(&whole.utilization_rates()));
    assert!(is_not_supported(&whole.process_utilization_stats(None)));
    let instances = || (0..7).filter_map(|index| whole.mig_device_by_index(index).ok()).collect::<Vec<_>>();
    assert_eq!(instances().len(), 2);
    let first = whole.mig_device_by_index(0).unwrap();
    assert_eq!(first.name().unwrap(), "NVIDIA A100-SXM4-80GB MIG 3g.40gb");
    assert!(first.uuid().unwrap().starts_with("MIG-"));
    assert!(first.mig_is_mig_device_handle().unwrap());
    assert_eq!(first.mig_parent_device().unwrap().uuid().unwrap(), whole.uuid().unwrap());
    assert_eq!(first.memory_info().unwrap().used, 30 << 30);
    assert_eq!(first.attributes().unwrap().multiprocessor_count, 42);
    assert!(is_not_supported(&first.temperature(TemperatureSensor::Gpu)));
    let pids = |device: &nvml_wrapper::Device<'_>| {
        device.running_compute_processes().unwrap().iter().map(|process| process.pid).collect::<Vec<_>>()
    };
    assert_eq!((pids(&first), pids(&whole)), (vec![4101], vec![4101, 4102]));
    let mut ids = (0, 0);
    // SAFETY: the handle is of this library, each place has room for its number.
    let codes = unsafe {
        let lib = opened.nvml.lib();
        let third = whole.mig_device_by_index(1).unwrap().handle();
        (
            lib.nvmlDeviceGetGpuInstanceId(third, &mut ids.0),
            lib.nvmlDeviceGetComputeInstanceId(third, &mut ids.1),
        )
    };
    assert_eq!((codes, ids), ((0, 0), (3, 0)));
    while opened.installed.now().ns < 10_000_000_000 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(instances().len(), 3);
}

#[test]
fn what_an_old_driver_has_not_is_not_found() {
    let opened = open_preset("old_driver", 5.5);
    let device = opened.nvml.device_by_index(0).unwrap();
    let not_found = |error: NvmlError| assert!(matches!(error, NvmlError::FunctionNotFound), "{error}");
    not_found(device.memory_info().unwrap_err());
    not_found(device.field_values_for(&[nvml_wrapper::structs::device::FieldId(82)]).unwrap_err());
    not_found(device.total_energy_consumption().unwrap_err());
    not_found(device.running_compute_processes().unwrap_err());
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 38);
    assert_eq!(device.current_throttle_reasons().unwrap(), ThrottleReasons::SW_POWER_CAP);
    assert_eq!(device.retired_pages(RetirementCause::DoubleBitEccError).unwrap(), []);
    assert!(!device.are_pages_pending_retired().unwrap());
}

#[test]
fn what_is_not_available_is_not_supported() {
    let opened = open_preset("not_available", 1.0);
    let card = opened.nvml.device_by_index(0).unwrap();
    assert_eq!(card.fan_speed(0).unwrap(), 38);
    assert!(is_not_supported(&card.is_ecc_enabled()));
    assert!(is_not_supported(&card.mig_mode()));
    let processes = card.running_compute_processes().unwrap();
    assert!(matches!(processes[0].used_gpu_memory, UsedGpuMemory::Unavailable));
    let guest = opened.nvml.device_by_index(1).unwrap();
    assert_eq!(guest.utilization_rates().unwrap().gpu, 34);
    assert!(is_not_supported(&guest.temperature(TemperatureSensor::Gpu)));
    assert!(is_not_supported(&guest.power_usage()));
    assert!(is_not_supported(&guest.current_throttle_reasons()));
    assert!(is_not_supported(&guest.pcie_throughput(PcieUtilCounter::Receive)));
}

#[test]
fn eight_gpus_are_eight() {
    let opened = open_preset("eight", 0.0);
    let uuids: std::collections::BTreeSet<String> =
        (0..8).map(|index| opened.nvml.device_by_index(index).unwrap().uuid().unwrap()).collect();
    assert_eq!(uuids.len(), 8);
    assert!(opened.nvml.device_by_index(8).is_err());
    let samples = opened.nvml.device_by_index(3).unwrap().process_utilization_stats(None).unwrap();
    assert_eq!((samples[0].pid, samples[0].sm_util), (4403, 65));
}

#[test]
fn profiles_are_means_between_two_samples() {
    let text =
        "[[gpu]]\nmodel = \"h100\"\ngpm = { sm_percent = [[0, 0], [10, 100]] }\n[[gpu]]\nmodel = \"a100\"";
    let opened = open(text, 4.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    assert!(device.gpm_support().unwrap());
    assert!(!opened.nvml.device_by_index(1).unwrap().gpm_support().unwrap());
    let at = || opened.installed.now().ns as f64 / 1e8;
    let (before, first, after) = (at(), device.gpm_sample().unwrap(), at());
    std::thread::sleep(Duration::from_millis(300));
    let (before_last, last, after_last) = (at(), device.gpm_sample().unwrap(), at());
    let asked = [GpmMetricId::SmUtil, GpmMetricId::DramBwUtil];
    let means = gpm_metrics_get(&opened.nvml, &first, &last, &asked).unwrap();
    let mean = means[0].as_ref().unwrap().value;
    // One percent of a tenth of a second each: the mean is that of the two moments.
    assert!(
        ((before + before_last) / 2.0 - 0.01..=(after + after_last) / 2.0 + 0.01).contains(&mean),
        "{mean}"
    );
    assert!(is_not_supported(&means[1]));
    assert!(gpm_metrics_get(&opened.nvml, &last, &first, &asked).is_err());
}
