//! Processes in, workloads out; readings in, what they did to a request out.

use std::sync::mpsc::sync_channel;

use proptest::prelude::*;

use super::*;
use crate::gpu::source::{Clocks, Instance, Throttle};
use crate::gpu::{Failure, Identity, NEWS_MAX, News};

const MS: u64 = 1_000_000;

fn user(tgid: u32, memory_bytes: Option<u64>, sm_percent: Option<u32>) -> User {
    User { tgid, memory_bytes, sm_percent }
}

/// Processes 1 to 9 are of `a`, 10 to 19 of `b`.
fn find(tgid: u32) -> Option<Arc<str>> {
    match tgid {
        1..10 => Some("a".into()),
        10..20 => Some("b".into()),
        _ => None,
    }
}

fn card(users: Option<Vec<User>>, instances: Vec<Instance>) -> Card {
    let mut card = Card::new(Identity::default());
    card.on_read(Reading { users, instances, ..Reading::default() });
    card.join(find);
    card
}

fn in_use(workload: &str, memory_bytes: Option<u64>, sm_percent: Option<u32>) -> Use {
    Use { workload: workload.into(), memory_bytes, sm_percent }
}

#[test]
fn processes_of_a_workload_sum_and_strangers_are_nobodys() {
    let users = vec![
        user(1, Some(5), Some(30)),
        user(10, None, Some(1)),
        user(2, Some(7), None),
        user(99, Some(1), None),
    ];
    let found = card(Some(users), Vec::new());
    assert_eq!(found.users, [in_use("a", Some(12), Some(30)), in_use("b", None, Some(1))]);
    assert_eq!(card(Some(Vec::new()), Vec::new()).users, []);
    assert_eq!(card(None, Vec::new()).users, []);
}

#[test]
fn users_of_instances_count_once_whether_or_not_the_gpu_tells_them_too() {
    let instance = |users| Instance { users, ..Instance::default() };
    let instances = || {
        vec![
            instance(Some(vec![user(1, Some(5), None)])),
            instance(None),
            instance(Some(vec![user(1, Some(3), None), user(10, Some(2), None)])),
        ]
    };
    let expected = [in_use("a", Some(8), None), in_use("b", Some(2), None)];
    assert_eq!(card(None, instances()).users, expected);
    assert_eq!(card(Some(vec![]), instances()).users, expected);
    let whole = vec![user(1, Some(8), None), user(10, Some(2), None)];
    assert_eq!(card(Some(whole), instances()).users, expected);
}

#[test]
fn a_gpu_that_does_not_answer_shows_no_users_and_stays_whose_it_was() {
    let mut card = card(Some(vec![user(1, None, None)]), Vec::new());
    card.on_state(crate::gpu::CardState::Lost("gone".to_owned()));
    card.join(find);
    assert_eq!(card.users, []);
    assert!(card.is_of("a") && !card.is_of("b"));
    card.on_read(Reading { users: Some(vec![user(10, None, None)]), ..Reading::default() });
    card.join(find);
    assert!(card.is_of("b") && !card.is_of("a"));
}

#[test]
fn shares_are_by_work_else_by_memory_else_even() {
    let check = |users: &[User], expected: &[(&str, f64)]| {
        let found = card(Some(users.to_vec()), Vec::new()).shares();
        let found: Vec<(&str, f64)> = found.iter().map(|(workload, share)| (&**workload, *share)).collect();
        assert_eq!(found, expected, "{users:?}");
    };
    check(&[user(1, Some(9), Some(30)), user(10, Some(1), Some(10))], &[("a", 0.75), ("b", 0.25)]);
    check(&[user(1, Some(9), Some(0)), user(10, Some(1), Some(0))], &[("a", 0.9), ("b", 0.1)]);
    check(&[user(1, Some(9), Some(30)), user(10, Some(1), None)], &[("a", 0.9), ("b", 0.1)]);
    check(&[user(1, None, Some(30)), user(10, Some(1), None)], &[("a", 0.5), ("b", 0.5)]);
    check(&[user(1, None, None)], &[("a", 1.0)]);
    check(&[user(1, Some(3), None), user(99, Some(1), None)], &[("a", 0.75)]);
    check(&[user(99, Some(1), None)], &[]);
}

/// GPUs `x` and `y` of workload `a`, and `z` of `b`, each read at these ms with SM clocks of so many MHz, throttled below 2000.
fn gpus(clocks: &[(u64, [u32; 3])]) -> Gpus {
    let (tell, news) = sync_channel(NEWS_MAX);
    let mut gpus = Gpus::default();
    gpus.hear(news);
    let names = ["x", "y", "z"];
    let identity = |uuid: &&str| Identity { uuid: (*uuid).to_owned(), ..Identity::default() };
    tell.send(News::Cards(names.iter().map(identity).collect())).unwrap();
    for (at, clocks) in clocks {
        for (index, sm) in clocks.iter().enumerate() {
            let mut throttle = Throttle::default();
            let cause = [ThrottleCause::PowerCap, ThrottleCause::SwThermal, ThrottleCause::HwThermal][index];
            throttle.now[cause as usize] = Some(*sm < 2000);
            let clocks = Clocks { sm: Some(*sm), sm_max: Some(2000), ..Clocks::default() };
            let users = Some(vec![user(if index < 2 { 1 } else { 10 }, None, None)]);
            let reading = Reading { at: BootTime(at * MS), throttle, clocks, users, ..Reading::default() };
            tell.send(News::Read { uuid: names[index].to_owned(), reading: Box::new(reading) }).unwrap();
        }
    }
    gpus.take();
    gpus.join_by(find);
    gpus
}

/// From and to, milliseconds, and how many percent of speed were lost.
type Percent = (u64, u64, u32);

fn slowed(gpus: &Gpus, workload: &str, from: u64, to: u64) -> Option<(Vec<Percent>, Vec<ThrottleCause>)> {
    let held = gpus.held_down(workload, BootTime(from * MS), BootTime(to * MS))?;
    let ms = |each: &Slowed| (each.start_ns / MS, each.end_ns / MS, (each.lost * 100.0).round() as u32);
    Some((held.slowed.iter().map(ms).collect(), held.causes))
}

#[test]
fn the_slowest_of_a_workloads_own_gpus_counts_and_no_other_one() {
    use ThrottleCause::{HwThermal, PowerCap, SwThermal};
    // `x` from 1 s on loses a quarter; `y` between 2 and 3 s half.
    let gpus = gpus(&[
        (0, [2000; 3]),
        (1000, [1500, 2000, 400]),
        (2000, [1500, 1000, 400]),
        (3000, [1500, 2000, 2000]),
    ]);
    let found = slowed(&gpus, "a", 0, 10_000).unwrap();
    assert_eq!(found, (vec![(500, 1500, 25), (1500, 2500, 50), (2500, 4000, 25)], vec![PowerCap, SwThermal]));
    assert_eq!(slowed(&gpus, "a", 600, 700).unwrap(), (vec![(600, 700, 25)], vec![PowerCap]));
    assert_eq!(slowed(&gpus, "a", 100, 400).unwrap(), (vec![], vec![]));
    assert_eq!(slowed(&gpus, "b", 0, 10_000).unwrap(), (vec![(500, 2500, 80)], vec![HwThermal]));
    assert_eq!(slowed(&gpus, "c", 0, 10_000), None, "it has no GPU");
}

#[test]
fn what_holds_at_the_end_of_a_request_counts_to_its_end() {
    let gpus = gpus(&[(0, [2000; 3]), (1000, [1000, 2000, 2000])]);
    assert_eq!(slowed(&gpus, "a", 900, 1300).unwrap().0, [(900, 1300, 50)]);
    assert_eq!(
        slowed(&gpus, "a", 900, 5000).unwrap().0,
        [(900, 2000, 50)],
        "and not further than one period"
    );
    assert_eq!(slowed(&gpus, "a", 2001, 5000).unwrap().0, []);
}

#[test]
fn a_driver_that_goes_away_leaves_what_it_told() {
    let mut gpus = gpus(&[(0, [2000; 3]), (1000, [1000, 2000, 2000])]);
    gpus.on_news(News::Driver(Err(Failure::Session("gone".to_owned()))));
    gpus.join_by(find);
    assert_eq!(slowed(&gpus, "a", 0, 5000).unwrap().0, [(500, 1000, 50)]);
}

proptest! {
    #[test]
    fn at_each_moment_the_greatest_loss_counts(pieces in prop::collection::vec((0..60_u64, 1..30_u64, 0..=4_u32), 0..20)) {
        let piece = |&(start, length, lost): &(u64, u64, u32)| Slowed { start_ns: start, end_ns: start + length, lost: f64::from(lost) / 4.0 };
        let pieces: Vec<Slowed> = pieces.iter().map(piece).collect();
        let found = slowest(&pieces);
        let at = |all: &[Slowed], at: u64| {
            let over = all.iter().filter(|each| each.start_ns <= at && at < each.end_ns);
            over.map(|each| each.lost).fold(None, |most: Option<f64>, lost| Some(most.map_or(lost, |most| most.max(lost))))
        };
        for time in 0..100 {
            prop_assert_eq!(at(&found, time), at(&pieces, time));
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].end_ns <= pair[1].start_ns));
    }
}
