//! Whether models are still as good.

use super::Severity::{Info, Warning};
use super::{Alert, Group};

/// A fall of the confidence that is more than a day's changes.
const CONFIDENCE_FALL: f64 = 0.05;
const CONFIDENCE_LOW: f64 = 0.75;
/// Scores of files that have not been seen whole for longer are no scores of now.
const AGE_SECONDS: u32 = 3600;

pub(super) fn group() -> Group {
    let alerts = [models(), serving(), canary_and_files()].concat();
    Group { name: "inferscope-quality", records: Vec::new(), alerts }
}

fn models() -> Vec<Alert> {
    vec![
        Alert {
            name: "ConfidenceFell",
            severity: Warning,
            expression: format!(
                "avg by (model, source) (prediction_confidence)\n  / avg by (model, source) (prediction_confidence offset 1d)\n- 1 < -{CONFIDENCE_FALL}"
            ),
            holds: "30m",
            summary: "{{ $labels.model }}: it is less sure than a day ago",
            description: "The mean confidence of {{ $labels.source }} has changed by {{ $value | humanizePercentage }} in 24 hours.".to_owned(),
        },
        Alert {
            name: "ConfidenceLow",
            severity: Info,
            expression: format!("avg(prediction_confidence) by (model) < {CONFIDENCE_LOW}"),
            holds: "30m",
            summary: "{{ $labels.model }}: it is not sure",
            description: "The mean confidence is {{ printf \"%.2f\" $value }}.".to_owned(),
        },
        Alert {
            name: "MMLUScoreFell",
            severity: Warning,
            expression: "mmlu_score_fallen{task=~\"mmlu|mmlu_branch\"} == 1".to_owned(),
            holds: "0m",
            summary: "{{ $labels.model }}: its MMLU score has fallen",
            description: "By more than chance explains, against the best run under the same terms, or the pinned one ({{ $labels.source }}): \
                          `mmlu_score_fall` says by how much."
                .to_owned(),
        },
    ]
}

fn serving() -> Vec<Alert> {
    vec![
        Alert {
            name: "ServingChanged",
            severity: Warning,
            expression: "drift_alarm{coincides=\"none\"} == 1".to_owned(),
            holds: "10m",
            summary: "{{ $labels.model }} on {{ $labels.workload }}: {{ $labels.of }} has changed, and nothing else did",
            description: "By more than chance explains once in the time of `drift.between_false_alarms`; `drift_change_ratio` says by how much."
                .to_owned(),
        },
        Alert {
            name: "ServingChangedWithCause",
            severity: Info,
            expression: "drift_alarm{coincides!=\"none\"} == 1".to_owned(),
            holds: "10m",
            summary: "{{ $labels.model }} on {{ $labels.workload }}: {{ $labels.of }} has changed with {{ $labels.coincides }}",
            description: "Something else changed at the same time: {{ $labels.coincides }}. Look there first.".to_owned(),
        },
    ]
}

fn canary_and_files() -> Vec<Alert> {
    vec![
        Alert {
            name: "CanaryAnswersChanged",
            severity: Info,
            expression: "canary_flips > 0".to_owned(),
            holds: "0m",
            summary: "{{ $labels.model }}: answers to the same questions are others than before",
            description: "{{ $value }} answers of the newest run, though server, arguments and model files did not change.".to_owned(),
        },
        Alert {
            name: "CanaryFails",
            severity: Warning,
            expression: "increase(canary_failures_total{reason=~\"files|given_up\"}[1h]) > 0".to_owned(),
            holds: "0m",
            summary: "{{ $labels.model }}: a run of the canary came to no end ({{ $labels.reason }})",
            description: "Its questions cannot be read, or the server did not answer five of them in a row: /api/v1/quality has the reason."
                .to_owned(),
        },
        Alert {
            name: "DriftScoreStale",
            severity: Warning,
            expression: format!("drift_score_age_seconds > {AGE_SECONDS}"),
            holds: "5m",
            summary: "{{ $labels.model }}: its files of predictions cannot be read",
            description: "The scores of {{ $labels.source }} are {{ $value | humanizeDuration }} old; `drift_file_failures_total` says why."
                .to_owned(),
        },
    ]
}
