//! Files that come, change, tear and vanish.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

struct Node {
    folder: tempfile::TempDir,
    reader: Reader,
    standing: Standing,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let settings = FileSettings {
            model: "m".to_owned(),
            source: "files".to_owned(),
            baseline: path("baseline.npy"),
            recent: path("recent.npy"),
            truth: Some(path("truth.npy")),
            validation: Some(path("validation.npy")),
            validation_truth: Some(path("validation_truth.npy")),
            interval: Duration::from_secs(1),
        };
        let reader = Reader::new(settings);
        let standing = reader.standing();
        let node = Self { folder, reader, standing };
        node.write("baseline.npy", &[0.1, 0.9]);
        node.write("recent.npy", &[0.25, 0.75]);
        node.write("truth.npy", &[0.0, 1.0]);
        node.write("validation.npy", &[1.0, 1.0, 0.0, 1.0]);
        node.write("validation_truth.npy", &[1.0, 0.0, 0.0, 1.0]);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As a writer that replaces a file at once.
    fn write(&self, name: &str, values: &[f64]) {
        let new = self.path("new");
        fs::write(&new, npy(values)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn look(&mut self) -> Option<String> {
        self.reader.look(&mut self.standing);
        self.standing.failure.clone()
    }

    fn counted(&self) -> (u64, u64, u64) {
        let counted = self.standing.counted;
        (counted.correct, counted.total, counted.false_positives)
    }

    fn scored(&self) -> &Scored {
        self.standing.scored.as_ref().unwrap()
    }
}

fn npy(values: &[f64]) -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({},), }}\n", values.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn a_version_is_scored_and_counted_once() {
    let mut node = Node::new();
    assert_eq!(node.look(), None);
    assert_eq!((node.counted(), node.scored().scores.recent_count), ((2, 2, 0), 2));
    assert_eq!(node.scored().confidence, Some(0.5));
    assert_eq!(node.standing.validation.as_ref().unwrap().accuracy, 0.75);
    // The same numbers again, in another file, are the same predictions.
    node.write("recent.npy", &[0.25, 0.75]);
    assert_eq!((node.look(), node.counted()), (None, (2, 2, 0)));
    node.write("recent.npy", &[0.625, 0.75]);
    assert_eq!((node.look(), node.counted()), (None, (3, 4, 1)));
    assert_eq!((node.look(), node.counted()), (None, (3, 4, 1)));
}

#[test]
fn what_is_wrong_leaves_the_last_scores_and_is_told() {
    let mut node = Node::new();
    node.look();
    let confirmed = node.scored().confirmed;
    let whole = fs::read(node.path("recent.npy")).unwrap();
    let pickle =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/drift-vectors/bad/pickled_object.npy"))
            .unwrap();
    let rows: [(&str, Option<&[u8]>); 4] = [
        ("missing", None),
        ("unfinished", Some(&whole[..whole.len() - 1])),
        ("refused", Some(&pickle)),
        ("mismatch", Some(&npy(&[0.5, 0.25, 0.125]))),
    ];
    for (kind, bytes) in rows {
        match bytes {
            Some(bytes) => fs::write(node.path("recent.npy"), bytes).unwrap(),
            None => fs::remove_file(node.path("recent.npy")).unwrap(),
        }
        let failure = node.look().unwrap();
        assert!(failure.contains("recent.npy"), "{kind}: {failure}");
        assert_eq!(node.standing.failures[kind], 1, "{:?}", node.standing.failures);
        assert_eq!((node.scored().confirmed, node.counted()), (confirmed, (2, 2, 0)), "{kind}");
    }
    fs::write(node.path("recent.npy"), &whole).unwrap();
    assert_eq!((node.look(), node.counted()), (None, (2, 2, 0)));
    assert!(node.scored().confirmed > confirmed);
}

#[test]
fn a_missing_validation_set_costs_the_predictions_nothing() {
    let mut node = Node::new();
    fs::remove_file(node.path("validation.npy")).unwrap();
    assert!(node.look().unwrap().contains("validation.npy"));
    assert_eq!((node.counted(), node.standing.validation.is_none()), ((2, 2, 0), true));
    let confirmed = node.scored().confirmed;
    node.look();
    assert!(node.scored().confirmed > confirmed);
}
