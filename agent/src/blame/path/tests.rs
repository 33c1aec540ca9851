//! Who wakes whom in, who is on the way out.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A small node: threads as the kernel has them.
#[derive(Default)]
struct Node {
    threads: HashMap<u32, Thread>,
    paths: Paths,
    now: u64,
}

impl Node {
    fn thread(&mut self, tgid: u32, tid: u32) -> &mut Thread {
        self.threads.entry(tid).or_insert_with(|| Thread { tgid, ..Thread::default() })
    }

    /// In one second `waker` wakes `wakee` so often.
    fn wakes(&mut self, waker: (u32, u32), wakee: (u32, u32), count: u32) {
        self.thread(waker.0, waker.1);
        let thread = self.thread(wakee.0, wakee.1);
        (0..count).for_each(|_| thread.woken_by(waker.1));
    }

    fn runs(&mut self, thread: (u32, u32), ms: u64) {
        self.thread(thread.0, thread.1).ran_ns += ms * 1_000_000;
    }

    fn look(&mut self) {
        self.now += SECOND;
        let mut threads: Vec<_> = self.threads.iter().map(|(tid, thread)| (*tid, *thread)).collect();
        threads.iter_mut().for_each(|(_, thread)| thread.state = State::Sleeps as u32);
        self.paths.observe(&threads, self.now);
    }

    fn lanes(&self, end: u32) -> (Vec<u32>, Vec<u32>) {
        let role = |tgid| match tgid {
            API => Some(Some(Role::Api)),
            ENGINE => Some(Some(Role::Engine)),
            WORKER => Some(Some(Role::Worker)),
            HELPER => Some(None),
            _ => None,
        };
        let lanes = self.paths.lanes(&[end], role);
        (lanes.serial.into_keys().collect(), lanes.parallel.into_keys().collect())
    }
}

const API: u32 = 10;
const ENGINE: u32 = 20;
const WORKER: u32 = 30;
const HELPER: u32 = 40;
const OTHER: u32 = 90;

/// An event loop, a receiver beside it; an engine's loop with its receiver and its sender.
fn vllm() -> Node {
    let mut node = Node::default();
    node.wakes((API, 11), (API, 10), 500);
    node.wakes((ENGINE, 22), (API, 11), 500);
    node.wakes((ENGINE, 20), (ENGINE, 22), 500);
    node.wakes((ENGINE, 21), (ENGINE, 20), 500);
    node.wakes((API, 11), (ENGINE, 21), 500);
    node.wakes((API, 10), (API, 11), 300);
    node.runs((ENGINE, 20), 900);
    node.runs((API, 10), 100);
    node.look();
    node
}

#[test]
fn the_way_goes_back_along_who_wakes_whom() {
    assert_eq!(vllm().lanes(10), (vec![10, 11, 20, 21, 22], vec![]));
}

#[test]
fn who_wakes_none_of_them_is_a_bystander() {
    let mut node = vllm();
    node.runs((API, 15), 90);
    node.wakes((API, 10), (API, 16), 1000);
    node.wakes((HELPER, 40), (HELPER, 41), 1000);
    node.wakes((API, 17), (API, 10), 5);
    node.look();
    assert_eq!(node.lanes(10), (vec![10, 11, 20, 21, 22], vec![]));
}

#[test]
fn another_server_is_not_on_the_way_whoever_wakes_whom() {
    let mut node = vllm();
    node.wakes((OTHER, 90), (API, 10), 1000);
    node.look();
    assert_eq!(node.lanes(10).0, [10, 11, 20, 21, 22]);
}

#[test]
fn threads_that_compute_for_the_engine_are_side_by_side() {
    let mut node = vllm();
    for tid in [25, 26] {
        node.wakes((ENGINE, 20), (ENGINE, tid), 1000);
        node.runs((ENGINE, tid), 850);
    }
    // One that wakes it, too, and one that hardly runs.
    node.wakes((ENGINE, 26), (ENGINE, 20), 500);
    node.wakes((ENGINE, 20), (ENGINE, 27), 1000);
    node.look();
    assert_eq!(node.lanes(10), (vec![10, 11, 20, 21, 22], vec![25, 26]));
}

#[test]
fn workers_that_look_for_work_without_sleep_are_on_the_way() {
    let mut node = vllm();
    node.runs((WORKER, 30), 900);
    node.runs((WORKER, 31), 10);
    node.look();
    assert_eq!(node.lanes(10), (vec![10, 11, 20, 21, 22], vec![30]));
}

#[test]
fn a_thread_that_nobody_woke_since_keeps_its_way_and_one_that_is_woken_by_others_forgets() {
    let mut node = vllm();
    (0..100).for_each(|_| node.look());
    assert_eq!(node.lanes(10).0, [10, 11, 20, 21, 22]);
    // The receiver is another thread now.
    for _ in 0..60 {
        node.wakes((API, 12), (API, 10), 500);
        node.wakes((ENGINE, 22), (API, 12), 500);
        node.look();
    }
    assert_eq!(node.lanes(10).0, [10, 11, 12, 20, 21, 22], "11 still hands on what goes in");
}

#[test]
fn a_thread_of_which_nothing_is_known_is_on_its_own_way() {
    assert_eq!(Paths::default().lanes(&[5], |_| None).serial.into_keys().collect::<Vec<_>>(), [5]);
}
