//! Calls that fail, calls that hang, GPUs that go, a driver that comes back.

use std::fs;
use std::time::{Duration, Instant};

use nvml_sim::{install, preset, without_symbols};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

use super::{init, installed, open, open_preset};

const SENSOR: TemperatureSensor = TemperatureSensor::Gpu;

#[test]
fn a_call_that_hangs_delays_no_other_gpu() {
    let text = preset::text("hang").unwrap();
    let text = text.replace("from = 10, to = 30", "from = 0, to = 4");
    let opened = open(&text, 0.0);
    let temperature = |index| opened.nvml.device_by_index(index).unwrap().temperature(SENSOR).unwrap();
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| {
            let start = Instant::now();
            temperature(1);
            start.elapsed()
        });
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        assert_eq!((temperature(0), temperature(2)), (45, 45));
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        assert!(!hung.is_finished());
        let hung = hung.join().unwrap();
        assert!(hung > Duration::from_millis(2000), "{hung:?}");
    });
}

#[test]
fn the_preset_that_hangs_does_so_for_twenty_seconds() {
    let opened = open_preset("hang", 29.4);
    let start = Instant::now();
    opened.nvml.device_by_index(1).unwrap().name().unwrap();
    assert!(opened.installed.now().ns >= 30_000_000_000 && start.elapsed() < Duration::from_secs(2));
}

#[test]
fn one_call_can_fail_for_a_time_with_any_code() {
    let text = "[[gpu]]\nmodel = \"h100\"\nfail = [\n\
                { code = \"UNKNOWN\", calls = [\"nvmlDeviceGetTemperature\"], to = 2 },\n\
                { code = 4711, calls = [\"nvmlDeviceGetPower*\"] },\n]\n";
    let opened = open(text, 0.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    assert!(matches!(device.temperature(SENSOR), Err(NvmlError::Unknown)));
    assert!(matches!(device.power_usage(), Err(NvmlError::UnexpectedVariant(4711))));
    assert!(device.utilization_rates().is_ok());
    std::thread::sleep(Duration::from_millis(2100));
    assert!(device.temperature(SENSOR).is_ok());
}

#[test]
fn a_gpu_off_the_bus_is_lost_alone_and_its_last_fault_is_told() {
    let opened = open_preset("lost", 8.0);
    let [stays, goes] = [0, 1].map(|index| opened.nvml.device_by_index(index).unwrap());
    assert!(goes.temperature(SENSOR).is_ok());
    let set = opened.nvml.create_event_set().unwrap();
    let set = goes.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    let event = set.wait(6000).unwrap();
    assert_eq!(format!("{:?}", event.event_data), "Some(Value(79))");
    assert!(matches!(set.wait(6000), Err(NvmlError::GpuLost)));
    assert!(matches!(goes.temperature(SENSOR), Err(NvmlError::GpuLost)));
    assert!(matches!(opened.nvml.device_by_index(1), Err(NvmlError::GpuLost)));
    assert_eq!(opened.nvml.device_count().unwrap(), 2);
    assert!(stays.temperature(SENSOR).is_ok());
}

#[test]
fn a_driver_that_is_loaded_again_counts_from_the_beginning() {
    let text = preset::text("reload").unwrap().replace("to = 14", "to = 10.2");
    let (installed, _folder) = installed(&text, 8.0);
    let nvml = init(&installed).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    let joules = device.total_energy_consumption().unwrap() / 1000;
    assert!((3200..=4000).contains(&joules), "{joules}");
    assert_eq!(device.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).unwrap(), 5);
    while installed.now().absence().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(matches!(device.temperature(SENSOR), Err(NvmlError::Uninitialized)));
    // While it is away nobody can begin, and who had begun can still end.
    drop(nvml);
    assert!(matches!(init(&installed), Err(NvmlError::DriverNotLoaded)));
    while installed.now().absence().is_some() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let nvml = init(&installed).unwrap();
    assert_eq!(nvml.sys_driver_version().unwrap(), "580.95.05");
    let device = nvml.device_by_index(0).unwrap();
    assert!(device.total_energy_consumption().unwrap() < 1_000_000);
    assert_eq!(device.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).unwrap(), 0);
    assert_eq!(device.total_ecc_errors(MemoryError::Corrected, EccCounter::Aggregate).unwrap(), 13);
}

#[test]
fn who_used_the_driver_before_it_was_loaded_again_has_to_begin_anew() {
    let (installed, _folder) =
        installed("absence = [{ from = 1.5, to = 1.6 }]\n[[gpu]]\nmodel = \"h100\"\n", 0.0);
    let nvml = init(&installed).unwrap();
    std::thread::sleep(Duration::from_millis(1700));
    assert!(matches!(nvml.device_count(), Err(NvmlError::Uninitialized)));
    drop(nvml);
    assert_eq!(init(&installed).unwrap().device_count().unwrap(), 1);
}

#[test]
fn a_library_that_does_not_fit_the_driver_says_so() {
    let text = "absence = [{ init_code = \"LIB_RM_VERSION_MISMATCH\" }]\n[[gpu]]\nmodel = \"h100\"\n";
    let (installed, _folder) = installed(text, 0.0);
    assert!(matches!(init(&installed), Err(NvmlError::LibRmVersionMismatch)));
}

#[test]
fn a_symbol_that_was_taken_out_is_not_found_by_the_loader() {
    let folder = tempfile::TempDir::new().unwrap();
    let installed = install(folder.path(), preset::text("two").unwrap()).unwrap();
    let gone = ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlSystemGetDriverVersion"];
    without_symbols(&installed.library, &gone).unwrap();
    let nvml = init(&installed).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert!(matches!(device.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
    assert!(matches!(nvml.sys_driver_version(), Err(NvmlError::FailedToLoadSymbol(_))));
    assert_eq!(device.temperature(SENSOR).unwrap(), 45);
    assert!(without_symbols(&installed.library, &["nvmlNoSuchCall"]).is_err());
}

#[test]
fn a_process_is_there_while_its_file_names_it() {
    let text = "[[gpu]]\nmodel = \"h100\"\nprocess = [{ pid_file = \"server.pid\", memory_gib = 4 }]\n";
    let (installed, folder) = installed(text, 0.0);
    let nvml = init(&installed).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    let pids = || {
        let processes = device.running_compute_processes().unwrap();
        processes.iter().map(|process| process.pid).collect::<Vec<_>>()
    };
    assert_eq!(pids(), []);
    fs::write(folder.path().join("server.pid"), "4711\n").unwrap();
    assert_eq!(pids(), [4711]);
    fs::write(folder.path().join("server.pid"), "4712\n").unwrap();
    assert_eq!(pids(), [4712]);
}
