//! Whatever fails in a scenario shows as the right state of the right GPU, and the others are read on.

use std::fs;
use std::time::Duration;

use inferscope::gpu::CardState;
use inferscope::gpu::nvml::Nvml;
use inferscope::gpu::source::{Failure, GpuSource};
use nvml_sim::without_symbols;

use super::{Library, Scene, TIMES};

const TWO: &str = "[[gpu]]\nmodel = \"h100\"\n[[gpu]]\nmodel = \"h100\"\n";

/// Two GPUs, of which the second one has this besides.
fn second(more: &str) -> String {
    format!("{TWO}{more}\n")
}

#[test]
fn a_call_that_hangs_is_unresponsive_and_delays_nobody() {
    let mut scene = Scene::of(Library::new(&second("hang = [{ from = 3, to = 7 }]"), 0.0));
    scene.until_states(&["answers", "answers"]);
    scene.until_states(&["answers", "unresponsive"]);
    assert!(scene.card(1).reading.is_none());
    for _ in 0..5 {
        scene.until_read_again(0);
    }
    assert_eq!(scene.states(), ["answers", "unresponsive"]);
    scene.until_states(&["answers", "answers"]);
    assert_eq!(scene.watch.lost(), 0);
}

#[test]
fn one_that_hangs_from_the_beginning_does_not_hide_the_others() {
    // Who it is, it still says.
    let calls = "calls = [\"nvmlDeviceGetFieldValues\", \"nvmlDeviceGetTemperature*\"]";
    let mut scene =
        Scene::of(Library::new(&second(&format!("hang = [{{ from = 0, to = 4, {calls} }}]")), 0.0));
    scene.until_states(&["answers", "unresponsive"]);
    scene.until_states(&["answers", "answers"]);
}

#[test]
fn a_library_that_hangs_is_waited_for() {
    let hang = "hang = [{ from = 0, to = 3, calls = [\"nvmlInit_v2\"] }]\n";
    let mut scene = Scene::of(Library::new(&format!("{hang}{TWO}"), 0.0));
    scene.until(
        "it hangs",
        |scene| matches!(scene.failure(), Some(Failure::Refused(text)) if text.contains("not answered")),
    );
    scene.until_states(&["answers", "answers"]);
    assert!(scene.failure().is_none());
}

#[test]
fn a_gpu_off_the_bus_is_lost_and_the_others_faults_are_still_told() {
    let lost = "xid = [{ code = 79, at = 2 }]\nfail = [{ code = \"GPU_IS_LOST\", from = 2.2, to = 7 }]";
    let text = second(lost).replacen("[[gpu]]\n", "[[gpu]]\nxid = [{ code = 31, at = 5 }]\n", 1);
    let mut scene = Scene::of(Library::new(&text, 0.0));
    scene.until_states(&["answers", "answers"]);
    scene.until_states(&["answers", "lost"]);
    let CardState::Lost(why) = &scene.card(1).state else { panic!() };
    assert!(why.contains("fell off the bus") || why.contains("fallen off"), "{why}");
    scene.until_read_again(0);
    scene.until("its last fault", |scene| scene.card(1).xids.get(&79) == Some(&1));
    scene.until("the other's fault", |scene| scene.card(0).xids.get(&31) == Some(&1));
    assert!(scene.gpus.no_faults().is_none());
    scene.until_states(&["answers", "answers"]);
}

#[test]
fn codes_mean_what_they_say() {
    for (code, expected) in [
        ("RESET_REQUIRED", "lost"),
        ("GPU_IS_LOST", "lost"),
        ("UNKNOWN", "failed"),
        ("NO_PERMISSION", "failed"),
    ] {
        // It says who it is, and refuses all else.
        let more = format!("fail = [{{ code = \"{code}\", from = 1.5 }}]");
        let mut scene = Scene::of(Library::new(&second(&more), 0.0));
        scene.until("the first readings", |scene| scene.states().contains(&"answers"));
        scene.until_states(&["answers", expected]);
    }
}

#[test]
fn one_call_that_is_refused_costs_its_own_value_for_this_time() {
    let more =
        "fail = [{ code = \"UNKNOWN\", from = 0, to = 4, calls = [\"nvmlDeviceGetUtilizationRates\"] }]";
    let mut scene = Scene::of(Library::new(&second(more), 0.0));
    scene.until_states(&["answers", "answers"]);
    let known = |scene: &Scene| scene.card(1).reading.as_ref().map(|reading| reading.utilization.is_some());
    assert_eq!(known(&scene), Some(false));
    assert!(scene.card(1).reading.as_ref().unwrap().memory.is_some());
    scene.until("it is told again", |scene| known(scene) == Some(true));
}

#[test]
fn a_driver_that_is_loaded_again_is_followed() {
    let text = "driver_version = \"575.57.08\"\n\
                absence = [{ from = 2, to = 4, driver_version = \"580.95.05\" }]\n\
                [[gpu]]\nmodel = \"h100\"\npower_watts = 400\n\
                throttle = [{ cause = \"sw_thermal\", from = 0, to = 1 }, { cause = \"sw_thermal\", from = 5, to = 6 }]\n";
    let mut scene = Scene::of(Library::new(text, 0.0));
    scene.until_states(&["answers"]);
    scene.until("the driver goes", |scene| matches!(scene.failure(), Some(Failure::Absent(_))));
    scene.until_states(&["failed"]);
    scene.until_states(&["answers"]);
    let version = scene.gpus.driver().unwrap().as_ref().unwrap().version.clone();
    assert_eq!(version.as_deref(), Some("580.95.05"));
    // The fields have other numbers now, and the counters begin again.
    let lost = |scene: &Scene| scene.card(0).reading.as_ref()?.throttle.lost_ns[1];
    scene.until("the second throttle", |scene| lost(scene) == Some(1_000_000_000));
}

#[test]
fn a_library_that_appears_later_is_found() {
    let library = Library::new(TWO, 0.0);
    let (here, away) = (library.installed.library.clone(), library.folder.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let mut scene = Scene::of(library);
    scene.until(
        "no library",
        |scene| matches!(scene.failure(), Some(Failure::Absent(text)) if text.contains("libnvidia-ml.so.1")),
    );
    fs::rename(&away, &here).unwrap();
    scene.until_states(&["answers", "answers"]);
}

#[test]
fn a_library_that_is_no_library_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libnvidia-ml.so.1");
    fs::write(&path, "no library at all").unwrap();
    let places = inferscope::gpu::nvml::Places { configured: Some(path), loader: false, roots: Vec::new() };
    assert!(matches!(Nvml::new(places).open(), Err(Failure::Absent(_))));
}

#[test]
fn a_driver_that_is_not_the_librarys_is_a_matter_of_the_session() {
    let text = format!("absence = [{{ from = 0, to = 3, init_code = \"LIB_RM_VERSION_MISMATCH\" }}]\n{TWO}");
    let mut scene = Scene::of(Library::new(&text, 0.0));
    scene.until("a mismatch", |scene| matches!(scene.failure(), Some(Failure::Session(_))));
    scene.until_states(&["answers", "answers"]);
}

/// Whatever symbol a library lacks, the rest is read.
#[test]
fn symbols_that_are_missing_cost_their_own_values() {
    let library = Library::new(TWO, 0.0);
    let missing = [
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlGpmSampleGet",
        "nvmlEventSetCreate",
    ];
    without_symbols(&library.installed.library, &missing).unwrap();
    let mut scene = Scene::of(library);
    scene.until_states(&["answers", "answers"]);
    scene.until("no faults", |scene| scene.gpus.no_faults().is_some());
    let reading = scene.card(0).reading.as_ref().unwrap();
    assert!(reading.memory.is_some_and(|memory| memory.reserved.is_none()));
    assert!(reading.temperature.is_some() && reading.power.energy_millijoules.is_some());
    assert!(reading.users.is_none() && reading.profile.is_none() && reading.memory_temperature.is_none());
    assert_eq!(
        reading.margin,
        Some(reading.slowdown_temperature.unwrap().min(85) - reading.temperature.unwrap())
    );
}

#[test]
fn a_library_without_its_end_is_not_a_panic() {
    let library = Library::new(TWO, 0.0);
    let missing = ["nvmlShutdown", "nvmlEventSetFree", "nvmlGpmSampleFree"];
    without_symbols(&library.installed.library, &missing).unwrap();
    let mut scene = Scene::of(library);
    scene.until_states(&["answers", "answers"]);
    drop(scene);
}

#[test]
fn the_end_of_the_watch_waits_for_no_call_that_hangs() {
    let mut scene = Scene::of(Library::new(&second("hang = [{ from = 1.5, to = 12 }]"), 0.0));
    scene.until_states(&["answers", "unresponsive"]);
    let begun = std::time::Instant::now();
    drop(scene.watch);
    assert!(begun.elapsed() < Duration::from_secs(2) + TIMES.interval, "{:?}", begun.elapsed());
}
