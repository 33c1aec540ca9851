//! The predictions of the golden page: those of a model with all files, and those of one whose file holds nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use inferscope::blame::Totals;
use inferscope::cgroup::Groups;
use inferscope::engine::Engines;
use inferscope::gpu::Gpus;
use inferscope::quality::Standings;
use inferscope::quality::files::{Counted, Scored, Standing};
use inferscope::quality::npy::{Array, read_file};
use inferscope::quality::score::{Scores, accuracy};
use inferscope::registry::Registries;
use inferscope::signal::drift::DriftSignal;
use inferscope::signal::{Signal as _, Tick};

use super::after;

/// The series of these files, two seconds after they were looked at.
pub fn signal(registries: &mut Registries) {
    let mut drift = DriftSignal::new(true, registries);
    let labels =
        accuracy::compare(&read("accuracy/a2_bool_i4.pred"), &read("accuracy/a2_bool_i4.truth")).unwrap();
    let counted = Counted { correct: 758, total: 800, false_positives: 20 };
    let failures = BTreeMap::from([("missing", 1), ("unfinished", 2)]);
    let full = Standing {
        validation: Some(labels.clone()),
        counted,
        failures,
        ..standing("granite", "02_shift_f8")
    };
    let full =
        Standing { scored: full.scored.map(|scored| Scored { accuracy: Some(labels), ..scored }), ..full };
    let standings = [full, standing("empty", "14_empty_recent")];
    drift
        .on_tick(&Tick {
            now: after(63_000),
            workloads: &[],
            open: &[],
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus: &Gpus::default(),
            quality: &Standings { predictions: standings.into(), ..Standings::default() },
        })
        .unwrap();
}

fn standing(model: &str, pair: &str) -> Standing {
    let [recent, baseline] = ["recent", "baseline"].map(|side| read(&format!("good/{pair}.{side}")));
    Standing {
        model: model.into(),
        source: "files".into(),
        scored: Some(Scored {
            scores: Scores::of(recent, baseline),
            accuracy: None,
            confidence: (model == "granite").then_some(0.75),
            written: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            confirmed: after(61_000),
        }),
        validation: None,
        counted: Counted::default(),
        failures: BTreeMap::new(),
        failure: None,
    }
}

fn read(name: &str) -> Array {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("drift-vectors");
    read_file(&vectors.join(format!("{name}.npy"))).unwrap()
}
