//! What a scenario says is what the real wrapper reads from the simulated library.

use nvml_sim::{Installed, install, preset};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;
use tempfile::TempDir;

struct Opened {
    nvml: Nvml,
    installed: Installed,
    _folder: TempDir,
}

fn open(text: &str) -> Opened {
    let folder = TempDir::new().unwrap();
    let installed = install(folder.path(), text).unwrap();
    let nvml = Nvml::builder().lib_path(installed.library.as_os_str()).init().unwrap();
    Opened { nvml, installed, _folder: folder }
}

#[test]
fn the_first_gpu_of_the_pleasant_scenario_is_read_whole() {
    let opened = open(preset::text("two").unwrap());
    let nvml = &opened.nvml;
    assert_eq!(nvml.device_count().unwrap(), 2);
    assert_eq!(nvml.sys_driver_version().unwrap(), "575.57.08");
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.name().unwrap(), "NVIDIA H100 80GB HBM3");
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 45);
    assert_eq!(device.temperature_threshold(TemperatureThreshold::Slowdown).unwrap(), 87);
    assert_eq!(device.power_usage().unwrap(), 320_000);
    assert_eq!(device.clock_info(Clock::SM).unwrap(), 1980);
    assert_eq!(device.utilization_rates().unwrap().gpu, 60);
    assert_eq!(device.memory_info().unwrap().used, 60 << 30);
    assert_eq!(device.pcie_throughput(PcieUtilCounter::Send).unwrap(), 120_000);
    assert!(matches!(device.fan_speed(0), Err(NvmlError::NotSupported)));
    assert_eq!(device.pci_info().unwrap().bus_id, "00000000:10:00.0");
    let uuid = device.uuid().unwrap();
    assert_eq!(nvml.device_by_uuid(uuid.as_str()).unwrap().index().unwrap(), 0);
    let before =
        opened.installed.scenario.at(nvml_sim::boot_ns()).gpu(0).unwrap().energy_millijoules().unwrap();
    let read = device.total_energy_consumption().unwrap();
    let after =
        opened.installed.scenario.at(nvml_sim::boot_ns()).gpu(0).unwrap().energy_millijoules().unwrap();
    assert!((before..=after).contains(&read), "{before} {read} {after}");
}
