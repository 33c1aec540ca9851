//! Requests in, time by whose it was out: against one that asks of every nanosecond.

use proptest::prelude::*;

use super::*;

type Row = (usize, u64, Option<u64>, Option<u64>);

fn flights(rows: &[Row]) -> Vec<Flight> {
    let models: [Option<Arc<str>>; 3] = [Some("m".into()), Some("n".into()), None];
    let flight = |(index, &(model, arrival, first_token, end)): (usize, &Row)| Flight {
        key: (BootTime(arrival), index as u32),
        model: models[model].clone(),
        first_token: first_token.map(BootTime),
        end: end.map(BootTime),
    };
    rows.iter().enumerate().map(flight).collect()
}

/// Time of the slots and of the requests without a model, between two times.
fn naive(flights: &[Flight], from: u64, to: u64) -> (f64, HashMap<Slot, f64>, HashMap<Key, f64>) {
    let (mut busy, mut slots, mut unnamed) = (0.0, HashMap::new(), HashMap::new());
    for at in from..to {
        let there = |flight: &&Flight| flight.key.0.0 <= at && flight.end.is_none_or(|end| at < end.0);
        let open: Vec<&Flight> = flights.iter().filter(there).collect();
        busy += f64::from(u8::from(!open.is_empty()));
        for flight in &open {
            let decodes = flight.first_token.is_some_and(|first| at >= first.0);
            let phase = if decodes { Phase::Decode } else { Phase::Prefill };
            let part = 1.0 / open.len() as f64;
            match &flight.model {
                Some(model) => *slots.entry((model.clone(), phase)).or_default() += part,
                None => *unnamed.entry(flight.key).or_default() += part,
            }
        }
    }
    (busy, slots, unnamed)
}

fn check(rows: &[Row], mut marks: Vec<u64>) {
    let flights = flights(rows);
    let found = Flights::new(flights.iter(), marks.iter().map(|mark| BootTime(*mark)).collect());
    marks.sort_unstable();
    for pair in marks.windows(2) {
        let share = found.between(BootTime(pair[0]), BootTime(pair[1]));
        let (busy, slots, unnamed) = naive(&flights, pair[0], pair[1]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(share.busy, busy), "{share:?} {busy}");
        assert_eq!(
            (share.slots.len(), share.unnamed.len()),
            (slots.len(), unnamed.len()),
            "{share:?} {slots:?}"
        );
        assert!(share.slots.iter().all(|(slot, time)| near(*time, slots[*slot])), "{share:?} {slots:?}");
        assert!(share.unnamed.iter().all(|(key, time)| near(*time, unnamed[key])), "{share:?} {unnamed:?}");
    }
}

#[test]
fn each_moment_is_shared_by_those_under_way() {
    // Alone in prefill, then beside another in decode, then the other one alone.
    let rows = [(0, 10, Some(20), Some(40)), (1, 20, None, Some(50))];
    let found = Flights::new(flights(&rows).iter(), vec![BootTime(0), BootTime(100)]);
    let share = found.between(BootTime(0), BootTime(100));
    let mut slots: Vec<(&str, Phase, f64)> =
        share.slots.iter().map(|((model, phase), time)| (&**model, *phase, *time)).collect();
    slots.sort_by_key(|(model, phase, _)| (*model, *phase));
    assert_eq!(slots, [("m", Phase::Prefill, 10.0), ("m", Phase::Decode, 10.0), ("n", Phase::Prefill, 20.0)]);
    assert!((share.busy - 40.0).abs() < 1e-9);
    assert!(found.between(BootTime(0), BootTime(1)).slots.is_empty(), "not a mark");
}

proptest! {
    #[test]
    fn time_is_shared_as_at_every_moment(
        rows in prop::collection::vec((0..3_usize, 0..100_u64, prop::option::of(0..40_u64), prop::option::of(0..40_u64)), 0..20),
        marks in prop::collection::vec(0..130_u64, 2..6),
    ) {
        let row = |(model, arrival, first, end): Row| {
            // Without a model only what goes on and has no token yet.
            let (first, end) = if model == 2 { (None, None) } else { (first, end) };
            let first = first.map(|first| arrival + first);
            (model, arrival, first, end.map(|end| first.unwrap_or(arrival) + end))
        };
        let rows: Vec<Row> = rows.into_iter().map(row).collect();
        check(&rows, marks);
    }
}
