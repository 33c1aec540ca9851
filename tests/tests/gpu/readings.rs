//! What is read is what the scenario says is true, through field values or older calls; what is not there is absent.

use std::time::Duration;

use inferscope::gpu::ThrottleCause;
use inferscope::gpu::source::{Device, Instance, Reading, User};
use nvml_sim::{Cause, GpuAt};

use super::{Library, Scene};

/// A value that was read lies between those of the truth right before and right after.
fn between(library: &Library, truth: impl Fn(GpuAt<'_>) -> u64, read: impl FnOnce() -> Option<u64>) {
    let before = truth(library.installed.now().gpu(0).unwrap());
    let read = read().unwrap();
    let after = truth(library.installed.now().gpu(0).unwrap());
    assert!((before..=after).contains(&read), "{before} {read} {after}");
}

fn read(device: &mut Box<dyn Device>) -> Reading {
    device.read().unwrap()
}

#[test]
fn a_newer_card_tells_everything() {
    let library = Library::preset("two", 5.0);
    let mut devices = library.devices();
    let truth = library.installed.now();
    let gpu = truth.gpu(0).unwrap();
    let identity = devices[0].identity().clone();
    assert_eq!((identity.uuid, identity.index), (gpu.uuid(), 0));
    assert_eq!((&*identity.name, identity.bus_id), ("NVIDIA H100 80GB HBM3", gpu.bus_id()));
    read(&mut devices[0]);
    std::thread::sleep(Duration::from_millis(1100));
    let reading = read(&mut devices[0]);
    let memory = gpu.memory();
    let found = reading.memory.unwrap();
    assert_eq!((found.used, found.total, found.reserved), (memory.used, memory.total, Some(memory.reserved)));
    assert_eq!(reading.temperature, gpu.temperature());
    assert_eq!(reading.memory_temperature, gpu.memory_temperature());
    assert_eq!(reading.margin, gpu.margin());
    let slowdown = reading.temperature.unwrap() + gpu.margin().unwrap() + 2;
    assert_eq!(
        (reading.slowdown_temperature, reading.shutdown_temperature),
        (Some(slowdown), Some(slowdown + 5))
    );
    assert_eq!(reading.power.milliwatts, gpu.power_milliwatts());
    assert_eq!(reading.power.limit_milliwatts, gpu.enforced_limit_milliwatts());
    let utilization = reading.utilization.unwrap();
    assert_eq!(Some((utilization.gpu, utilization.memory)), gpu.utilization_percent());
    assert_eq!((reading.clocks.sm, reading.clocks.sm_max), (Some(1980), Some(1980)));
    assert_eq!((reading.clocks.memory, reading.clocks.memory_max), (Some(2619), Some(2619)));
    assert_eq!((reading.performance_state, reading.compute_mode), (Some(0), Some("default")));
    assert!(reading.ecc.volatile.is_some() && reading.ecc.aggregate.is_some());
    assert!(reading.remapped.is_some_and(|rows| !rows.pending && !rows.failed));
    assert_eq!((reading.retired, reading.fan_percent), (None, None));
    let pcie = reading.pcie;
    assert_eq!((pcie.generation, pcie.width, pcie.replays), (Some(5), Some(16), Some(0)));
    assert_eq!(pcie.sent_bytes_per_second, Some(120_000_000));
    assert_eq!(reading.nvlink.unwrap().links_active, 18);
    let profile = reading.profile.unwrap();
    for (part, percent) in [
        (profile.sm_active, 48.0),
        (profile.sm_occupancy, 22.0),
        (profile.tensor_active, 31.0),
        (profile.memory_active, 42.0),
    ] {
        assert!((part.unwrap() * 100.0 - percent).abs() < 0.01, "{part:?} {percent}");
    }
    assert!(reading.users.is_some() && reading.instances.is_empty());
}

#[test]
fn counters_are_those_of_the_truth() {
    for driver in ["575.57.08", "580.95.05"] {
        let text = format!(
            "driver_version = \"{driver}\"\n[[gpu]]\nmodel = \"h100\"\npower_watts = 400\n\
             throttle = [{{ cause = \"sw_thermal\", from = 1, to = 3 }}, {{ cause = \"power_cap\", from = 2 }}]\n"
        );
        let library = Library::new(&text, 4.0);
        let mut device = library.devices().remove(0);
        let lost = |reading: &Reading, cause: ThrottleCause| reading.throttle.lost_ns[cause as usize];
        let reading = read(&mut device);
        assert_eq!(lost(&reading, ThrottleCause::SwThermal), Some(2_000_000_000), "{driver}");
        assert_eq!(lost(&reading, ThrottleCause::HwThermal), Some(0));
        assert_eq!(lost(&reading, ThrottleCause::PowerBrake), Some(0));
        assert_eq!(lost(&reading, ThrottleCause::Thermal), None, "it would be counted twice");
        assert_eq!(reading.throttle.now[ThrottleCause::PowerCap as usize], Some(true));
        assert_eq!(reading.throttle.now[ThrottleCause::SwThermal as usize], Some(false));
        let counted = |truth: GpuAt<'_>| truth.throttled_ns(Cause::PowerCap);
        between(&library, counted, || lost(&read(&mut device), ThrottleCause::PowerCap));
        let energy = |truth: GpuAt<'_>| truth.energy_millijoules().unwrap();
        between(&library, energy, || read(&mut device).power.energy_millijoules);
    }
}

/// A reading of a first GPU, and what is true of it, when nothing changes.
fn only(scenario: &str, age: f64) -> (Library, Reading) {
    let library = Library::new(scenario, age);
    let reading = read(&mut library.devices()[0]);
    (library, reading)
}

#[test]
fn an_old_driver_is_asked_by_the_older_calls() {
    let (library, reading) = only(nvml_sim::preset::text("old_driver").unwrap(), 20.0);
    let truth = library.installed.now();
    let gpu = truth.gpu(0).unwrap();
    assert_eq!(reading.temperature, gpu.temperature());
    assert!(reading.memory.is_some_and(|memory| memory.reserved.is_none()));
    assert_eq!(reading.power.milliwatts, gpu.power_milliwatts());
    assert_eq!(reading.power.energy_millijoules, None);
    let cap = ThrottleCause::PowerCap as usize;
    assert_eq!(reading.throttle.lost_ns[cap], Some(3_000_000_000));
    assert_eq!(reading.throttle.now[cap], Some(false));
    assert!(reading.users.is_none() && reading.profile.is_none() && reading.remapped.is_none());
}

#[test]
fn what_is_not_available_is_absent_and_not_zero() {
    let library = Library::preset("not_available", 5.0);
    let mut devices = library.devices();
    let desktop = read(&mut devices[0]);
    assert!(desktop.temperature.is_some() && desktop.ecc.volatile.is_none() && desktop.nvlink.is_none());
    assert!(desktop.users.as_ref().is_some_and(|users| users.iter().all(|user| user.memory_bytes.is_none())));
    let reading = read(&mut devices[1]);
    let Reading { at, took, memory, utilization, users, .. } = reading.clone();
    assert!(memory.is_some() && utilization.is_some_and(|all| (all.gpu, all.memory) == (34, 9)));
    // Not a value besides.
    let rest = Reading { pcie: reading.pcie, ..Reading::default() };
    assert_eq!(reading, Reading { at, took, memory, utilization, users, ..rest });
    assert_eq!((reading.pcie.generation, reading.pcie.replays), (None, None));
}

#[test]
fn instances_of_a_split_gpu_are_rows_of_their_own() {
    let library = Library::preset("mig", 8.0);
    let mut scene = Scene::of(library);
    scene.until_states(&["answers", "answers"]);
    let instances =
        |scene: &Scene| -> Vec<Instance> { scene.card(0).reading.as_ref().unwrap().instances.clone() };
    let found = instances(&scene);
    let told: Vec<_> =
        found.iter().map(|one| (&*one.profile, one.gpu_instance, one.compute_instance)).collect();
    assert_eq!(told[0], ("3g.40gb", Some(1), Some(0)));
    assert_eq!(told[1], ("2g.20gb", Some(3), Some(0)));
    assert!(found.iter().all(|one| one.uuid.starts_with("MIG-") && one.memory.is_some()));
    let users = |users: &Option<Vec<User>>| -> Vec<u32> {
        users.as_ref().unwrap().iter().map(|user| user.tgid).collect()
    };
    assert_eq!((users(&found[0].users), users(&found[1].users)), (vec![4101], vec![4102]));
    let reading = scene.card(0).reading.as_ref().unwrap();
    assert_eq!((users(&reading.users), reading.memory), (vec![4101, 4102], None));
    assert_eq!(users(&scene.card(1).reading.as_ref().unwrap().users), [4103]);
    // One is made while all is read.
    scene.until("the third", |scene| instances(scene).len() == 3);
}

#[test]
fn faults_come_by_code_with_none_lost() {
    let text = "[[gpu]]\nmodel = \"h100\"\nxid = [{ code = 31, at = 2, count = 40, every = 0.02 }, { code = 94, at = 2.5 }]\n";
    let mut scene = Scene::of(Library::new(text, 0.0));
    scene.until_states(&["answers"]);
    scene.until("41 faults", |scene| scene.card(0).xids.values().sum::<u64>() == 41);
    assert_eq!((scene.card(0).xids[&31], scene.card(0).xids[&94]), (40, 1));
}

#[test]
fn limits_that_are_margins_become_temperatures_also_while_it_heats_up() {
    let library = Library::preset("heating", 12.0);
    let mut device = library.devices().remove(0);
    for _ in 0..20 {
        let reading = read(&mut device);
        if let Some(slowdown) = reading.slowdown_temperature {
            assert_eq!((slowdown, reading.shutdown_temperature), (87, Some(92)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
