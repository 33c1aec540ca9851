//! A record and readings of GPUs in, a verdict out.

use std::sync::mpsc::sync_channel;

use super::*;
use crate::gpu::source::{Clocks, Power, Throttle, User};
use crate::gpu::{Identity, NEWS_MAX, News, Reading};
use crate::signal::latency::tests::record;
use crate::workload::fake_proc::FakeProc;

/// One GPU of workload `owner`, read just before the record's arrival and 60 ms later, when it ran at 1200 of 1980 MHz.
fn gpus(owner: &str) -> Gpus {
    let (tell, news) = sync_channel(NEWS_MAX);
    let mut gpus = Gpus::default();
    gpus.hear(news);
    tell.send(News::Cards(vec![Identity { uuid: "a".to_owned(), ..Identity::default() }])).unwrap();
    let arrival = record().arrival.0;
    for (at, on) in [(arrival, false), (arrival + 60_000_000, true)] {
        let mut throttle = Throttle::default();
        throttle.now[ThrottleCause::SwThermal as usize] = Some(on);
        // 40 ms of it.
        throttle.lost_ns[ThrottleCause::SwThermal as usize] =
            Some(if on { 140_000_000 } else { 100_000_000 });
        let sm = Some(if on { 1200 } else { 1980 });
        let clocks = Clocks { sm, sm_max: Some(1980), ..Clocks::default() };
        let users = Some(vec![User { tgid: 1, memory_bytes: None, sm_percent: None }]);
        let power = Power::default();
        let reading = Reading { at: BootTime(at), throttle, clocks, users, power, ..Reading::default() };
        tell.send(News::Read { uuid: "a".to_owned(), reading: Box::new(reading) }).unwrap();
    }
    gpus.take();
    gpus.join_by(|_| Some(owner.into()));
    gpus
}

fn judge(gpus: &Gpus) -> Verdict {
    let proc = FakeProc::new();
    let mut workloads = Workloads::new(crate::workload::Settings::default(), proc.roots()).unwrap();
    let mut blame = Blame::new(Settings::default(), BootTime(0));
    let known = Known { threads: &[], engines: &Engines::default(), gpus };
    blame.judge(&record(), &known, Vec::new, &mut workloads)
}

#[test]
fn a_throttle_of_its_own_gpu_has_the_time_that_it_took_of_a_request() {
    let verdict = judge(&gpus("w"));
    assert_eq!(verdict.throttles, Some(vec![ThrottleCause::SwThermal]));
    let of = |phase: usize| {
        let (_, vector) = &verdict.phases[phase];
        (vector.of(Cause::GpuThrottle).as_micros(), vector.sum().as_millis())
    };
    // From 20 ms on; the first token is at 40, the end at 120, and the newest reading goes on for 60: all at 39.4 % less.
    assert_eq!(of(0), (7878, 40));
    assert_eq!(of(1), (31_515, 80));
    assert_eq!(verdict.causes, [(Cause::GpuThrottle, Duration::from_nanos(39_393_938))]);
}

#[test]
fn the_gpu_of_another_server_is_not_to_blame() {
    let verdict = judge(&gpus("another"));
    assert_eq!(verdict.throttles, None);
    assert!(verdict.causes.is_empty(), "{:?}", verdict.causes);
}
