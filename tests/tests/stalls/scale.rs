//! A large node: 10,000 threads of servers, 500 control groups. Is the agent's memory within its budget, and is what does
//! not fit counted?

use std::process::{Child, Command, Stdio};

use inferscope_tests::bench::{kernel_bytes, memory_bytes};
use inferscope_tests::books::{Books, tick_over};
use inferscope_tests::lab::group::Group;

use super::crowd::{self, Crowd};
use super::*;

/// Servers that have a place, the demonstration server and those that the node has anyway among them.
const PLACES: usize = 8;
/// Of all servers that have one, together.
const THREADS: u64 = 10_000;
/// Servers for which there is no place.
const BEYOND: usize = 2;
const GROUPS: usize = 500;
/// Threads of a server too large for the table, which has room for 16,384.
const THREADS_TOO_MANY: &str = "7000";
const TABLE: u64 = 16_384;
/// DESIGN's budget of the agent.
const ANONYMOUS_MAX: u64 = 48 << 20;
const MAPS_MAX: u64 = 64 << 20;
/// And of its page.
const SERIES_MAX: usize = 4000;

/// A process that only sleeps, for the groups that are not a server's.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Groups with whoever is in them.
struct Groups {
    groups: Vec<Group>,
    sleepers: Vec<Sleeper>,
}

impl Groups {
    fn make(servers: &[Crowd]) -> Option<Self> {
        let mut all = Self { groups: Vec::new(), sleepers: Vec::new() };
        for number in 0..GROUPS {
            let group = match Group::make(&format!("inferscope-test-{}-{number}", std::process::id())) {
                Ok(group) => group,
                Err(error) => {
                    inferscope_tests::skip(&format!("no control group can be made: {error:#}"));
                    return None;
                }
            };
            let tgid = servers.get(number).map(Crowd::tgid);
            let tgid = tgid.unwrap_or_else(|| {
                all.sleepers.push(Sleeper::start());
                all.sleepers[all.sleepers.len() - 1].0.id()
            });
            group.take(tgid).unwrap();
            all.groups.push(group);
        }
        Some(all)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.sleepers.clear();
        self.groups.iter().for_each(Group::remove);
    }
}

/// Checks what the agent takes of the node.
fn check_budget(agent: &AgentProcess, when: &str) {
    let anonymous = memory_bytes(agent.tgid(), "RssAnon").unwrap();
    let (maps, _) = kernel_bytes(agent.tgid()).unwrap();
    let page = Books::read(agent).unwrap();
    let series: usize = page.0.values().map(|family| family.samples.len()).sum();
    let threads = page.sum("inferscope_table_entries", &[("table", "threads")]);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{when}: {threads} threads, {:.1} MiB anonymous, {:.1} MiB of maps, {series} series",
        mib(anonymous),
        mib(maps)
    );
    assert!(anonymous <= ANONYMOUS_MAX, "{when}: {anonymous} bytes of anonymous memory");
    assert!(maps <= MAPS_MAX, "{when}: {maps} bytes of maps");
    assert!(series <= SERIES_MAX, "{when}: {series} series");
}

fn followed_threads(agent: &AgentProcess) -> u64 {
    Books::read(agent).unwrap().sum("inferscope_table_entries", &[("table", "threads")])
}

#[test]
fn a_large_node_fits_and_what_does_not_is_counted() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let names: Vec<String> = (0..PLACES - 1).map(|number| format!("large-{number}")).collect();
    let beyond: Vec<String> = (0..BEYOND).map(|number| format!("beyond-{number}")).collect();
    let all: Vec<&str> = names.iter().chain(&beyond).map(String::as_str).collect();
    let agent = stage.start_agent(&crowd::settings(&stage, &all)).unwrap();
    let server = stage.start_server(&[]).unwrap();
    let demo = |page: &Books| page.sum("inferscope_workload_info", &[("workload", "demo")]) == 1;
    let page = until(patient(PATIENCE), || Some(Books::read(&agent).unwrap()).filter(demo)).unwrap();
    let places = PLACES - 1 - others(&page, &["demo"]);
    let threads = (THREADS / places as u64 + 1).to_string();
    let with_place = names.iter().take(places);
    let mut servers: Vec<Crowd> =
        with_place.map(|name| Crowd::start(&stage, name, &["--threads", &threads])).collect();
    servers.extend(beyond.iter().map(|name| Crowd::start(&stage, name, &[])));
    let Some(groups) = Groups::make(&servers) else { return };
    let all_there = || (followed_threads(&agent) >= THREADS).then_some(());
    assert!(until(patient(PATIENCE), all_there).is_some(), "{} threads", followed_threads(&agent));
    check_budget(&agent, "10,000 threads and 500 groups");

    let scene = Scene { stage, agent, server };
    let load = scene.load(20.0, 8.0);
    while !load.is_finished() {
        std::thread::sleep(Duration::from_secs(2));
        check_budget(&scene.agent, "under load");
    }
    let report = load.join().unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    scene.requests(report.exchanges.len());
    let books = Books::read(&scene.agent).unwrap();
    assert_eq!(books.lost("thread_table", "full"), 0);
    assert!(books.lost("workload_table", "full") > 0, "servers without a place: {books}");

    servers.push(Crowd::start(&scene.stage, "large-0", &["--threads", THREADS_TOO_MANY]));
    let counted = || {
        tick_over(scene.agent.listen).unwrap();
        (Books::read(&scene.agent).unwrap().lost("thread_table", "full") > 0).then_some(())
    };
    assert!(until(patient(PATIENCE), counted).is_some(), "{}", Books::read(&scene.agent).unwrap());
    assert!(followed_threads(&scene.agent) <= TABLE);
    check_budget(&scene.agent, "a full table of threads");
    drop(servers);
    drop(groups);
    scene.stop();
}
