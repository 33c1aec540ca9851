//! Where the wrapper, or the library, does not do what one thinks: the simulated one does the same.

use std::time::Duration;

use nvml_sim::{Cause, boot_ns};
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlMarginTemperature_t, nvmlValue_t};

use super::{Opened, init, installed, open, open_preset};

/// A field by the call itself: its return code, its type, and its eight bytes.
fn raw_field(opened: &Opened, device: &Device<'_>, field: u32, scope: u32) -> (u32, u32, nvmlValue_t) {
    let mut value = nvmlFieldValue_t {
        fieldId: field,
        scopeId: scope,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 99,
        nvmlReturn: 99,
        value: nvmlValue_t { ullVal: 0 },
    };
    // SAFETY: the handle is of this library, and there is room for the one value that is asked for.
    let code = unsafe { opened.nvml.lib().nvmlDeviceGetFieldValues(device.handle(), 1, &raw mut value) };
    assert_eq!(code, 0);
    (value.nvmlReturn, value.valueType, value.value)
}

#[test]
fn limits_of_margin_have_a_type_that_the_wrapper_does_not_know() {
    let opened = open_preset("two", 0.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    for (field, limit) in [(193, -7), (194, -2), (195, 0), (196, 0)] {
        let (code, value_type, value) = raw_field(&opened, &device, field, 0);
        // SAFETY: the type says which it is.
        assert_eq!((code, value_type, unsafe { value.siVal }), (0, 5, limit), "field {field}");
        let by_wrapper = device.field_values_for(&[FieldId(field)]).unwrap();
        let value = by_wrapper[0].as_ref().map(|sample| sample.value.is_ok());
        assert!(!matches!(value, Ok(true)), "field {field}: {by_wrapper:?}");
    }
}

#[test]
fn a_margin_of_the_wrong_version_is_refused() {
    let opened = open_preset("two", 0.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    let ask = |version| {
        let mut margin = nvmlMarginTemperature_t { version, marginTemperature: 99 };
        // SAFETY: the handle is of this library, and there is room for the struct.
        let code =
            unsafe { opened.nvml.lib().nvmlDeviceGetMarginTemperature(device.handle(), &raw mut margin) };
        (code, margin.marginTemperature)
    };
    let size = u32::try_from(size_of::<nvmlMarginTemperature_t>()).unwrap();
    assert_eq!(ask(size | 1 << 24), (0, 85 - 45));
    assert_eq!(ask(1), (25, 99));
    assert_eq!(ask(size | 2 << 24), (25, 99));
}

/// One H100 that both its driver and its hardware hold down for good.
fn throttled(driver: &str) -> Opened {
    let text = format!(
        "driver_version = \"{driver}\"\n[[gpu]]\nmodel = \"h100\"\nthrottle = [\n\
         {{ cause = \"sw_thermal\" }},\n{{ cause = \"hw_thermal\", from = 1 }},\n{{ cause = \"power_brake\", from = 2 }},\n]\n"
    );
    open(&text, 10.0)
}

#[test]
fn reasons_have_other_numbers_in_newer_drivers() {
    const CAUSES: [Cause; 3] = [Cause::SwThermal, Cause::HwThermal, Cause::PowerBrake];
    for (driver, first, other) in [("575.57.08", 251, 269), ("580.81.00", 251, 269), ("580.82.07", 269, 251)]
    {
        let opened = throttled(driver);
        let device = opened.nvml.device_by_index(0).unwrap();
        for (offset, cause) in (0..3).zip(CAUSES) {
            let truth = |gpu: nvml_sim::GpuAt<'_>| gpu.throttled_ns(cause);
            opened.bracketed(truth, || {
                let (code, value_type, value) = raw_field(&opened, &device, first + offset, 0);
                assert_eq!((code, value_type), (0, 3), "{driver} {cause:?}");
                // SAFETY: the type says which it is.
                unsafe { value.ullVal }
            });
            let (code, ..) = raw_field(&opened, &device, other + offset, 0);
            assert_eq!(code, 3, "{driver} {cause:?}");
            // The wrapper takes the old number whatever the driver.
            opened.bracketed(truth, || {
                let samples = device.field_values_for(&[FieldId(251 + offset)]).unwrap();
                match samples[0].as_ref().unwrap().value.as_ref().unwrap() {
                    SampleValue::U64(ns) => *ns,
                    other => panic!("{driver} {cause:?}: {other:?}"),
                }
            });
        }
    }
}

#[test]
fn older_fields_say_the_same_as_their_calls() {
    let opened = open_preset("ecc", 12.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    let number = |field, scope| {
        let (code, value_type, value) = raw_field(&opened, &device, field, scope);
        assert_eq!(code, 0, "field {field}");
        // SAFETY: the type says which it is.
        unsafe { if value_type == 1 { u64::from(value.uiVal) } else { value.ullVal } }
    };
    // Memory temperature, volatile and aggregate errors, rows, replays, links, errors of links.
    for (field, value) in [(82, 52), (3, 7), (4, 2), (5, 127), (6, 3), (142, 1), (143, 1), (144, 1), (145, 0)]
    {
        assert_eq!(number(field, 0), value, "field {field}");
    }
    for (field, value) in
        [(94, 0), (91, 18), (161, 0), (165, 1), (186, 320_000), (185, 320_000), (190, 700_000)]
    {
        assert_eq!(number(field, 0), value, "field {field}");
    }
    opened.bracketed(|gpu| gpu.energy_millijoules().unwrap(), || number(83, 0));
    assert_eq!(raw_field(&opened, &device, 165, 18).0, 3);
    assert_eq!((raw_field(&opened, &device, 29, 0).0, raw_field(&opened, &device, 0, 0).0), (3, 2));
    let opened = open_preset("xid_burst", 9.0);
    let device = opened.nvml.device_by_index(1).unwrap();
    let number = |field, scope| {
        let (code, _, value) = raw_field(&opened, &device, field, scope);
        // SAFETY: counters of links are of this type.
        (code, unsafe { value.ullVal })
    };
    assert_eq!([number(161, 0), number(162, 0), number(163, 0)], [(0, 42), (0, 1), (0, 5)]);
    assert_eq!([number(161, 1), number(165, 16), number(165, 17)], [(0, 0), (0, 1), (0, 0)]);
    assert_eq!(number(161, 18).0, 3);
}

#[test]
fn a_set_is_gone_once_one_gpu_refuses_it() {
    let text = "[[gpu]]\nmodel = \"h100\"\nevents = false\n[[gpu]]\nmodel = \"h100\"\n";
    let opened = open(text, 0.0);
    let set = opened.nvml.create_event_set().unwrap();
    let silent = opened.nvml.device_by_index(0).unwrap();
    let refused = silent.register_events(EventTypes::CRITICAL_XID_ERROR, set).map(|_| ()).unwrap_err();
    assert!(matches!(refused.error, NvmlError::NotSupported));
    let other = opened.nvml.create_event_set().unwrap();
    let tells = opened.nvml.device_by_index(1).unwrap();
    assert!(tells.register_events(EventTypes::CRITICAL_XID_ERROR, other).is_ok());
}

#[test]
fn only_faults_after_the_registration_are_told() {
    let text = "[[gpu]]\nmodel = \"h100\"\nxid = [{ code = 31, at = 1 }, { code = 43, at = 5.5 }]\n";
    let opened = open(text, 4.0);
    let device = opened.nvml.device_by_index(0).unwrap();
    let set = opened.nvml.create_event_set().unwrap();
    let set =
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    let before = boot_ns();
    assert_eq!(format!("{:?}", set.wait(6000).unwrap().event_data), "Some(Value(43))");
    assert!(boot_ns() - before < 4_000_000_000);
}

#[test]
fn who_waits_for_faults_sleeps_and_wakes_when_the_library_is_let_go() {
    let opened = open("[[gpu]]\nmodel = \"h100\"\n", 0.0);
    let set = opened.nvml.create_event_set().unwrap();
    let device = opened.nvml.device_by_index(0).unwrap();
    let set =
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    let second = init(&opened.installed).unwrap();
    let sleeps = || {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let before = sleeps();
    assert!(matches!(set.wait(1000), Err(NvmlError::Timeout)));
    assert!(sleeps() - before < 10, "it looks again and again");
    std::thread::scope(|scope| {
        scope.spawn(move || second.shutdown().unwrap());
        assert!(matches!(set.wait(300), Err(NvmlError::Timeout)), "another still uses it");
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            // SAFETY: it takes nothing. The library counts its users: the wrapper's own is refused later.
            assert_eq!(unsafe { opened.nvml.lib().nvmlShutdown() }, 0);
        });
        assert!(matches!(set.wait(60_000), Err(NvmlError::Uninitialized)));
    });
}

#[test]
fn what_its_own_calls_take_is_told() {
    let opened = open_preset("two", 0.0);
    assert_eq!(opened.installed.spent().unwrap(), nvml_sim::Spent::default());
    let device = opened.nvml.device_by_index(0).unwrap();
    for _ in 0..100 {
        device.power_usage().unwrap();
    }
    let spent = opened.installed.spent().unwrap();
    assert!(spent.calls == 101 && spent.ns > 0, "{spent:?}");
    let (other, _folder) = installed("[[gpu]]\nmodel = \"h100\"\n", 0.0);
    assert!(other.spent().is_err(), "it is not loaded");
}

#[test]
fn ends_without_a_panic_even_when_the_driver_is_away() {
    let opened = open("absence = [{ from = 2 }]\n[[gpu]]\nmodel = \"h100\"\n", 0.0);
    let set = opened.nvml.create_event_set().unwrap();
    let device = opened.nvml.device_by_index(0).unwrap();
    let sample = device.gpm_sample().unwrap();
    let set =
        device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error).unwrap();
    assert!(matches!(set.wait(6000), Err(NvmlError::Uninitialized)));
    drop((sample, set));
    drop(opened);
}
