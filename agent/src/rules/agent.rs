//! Whether the agent itself can be believed.

use super::Severity::{Critical, Warning};
use super::{Alert, Group};

pub(super) fn group() -> Group {
    let alerts = vec![
        Alert {
            name: "InferscopeDown",
            severity: Critical,
            expression: "up{job=\"inferscope\"} == 0".to_owned(),
            holds: "5m",
            summary: "The agent on {{ $labels.instance }} cannot be scraped",
            description: "Nothing is measured there, or nobody hears of it: the other alerts of this node are silent.".to_owned(),
        },
        Alert {
            name: "InferscopeAbsent",
            severity: Critical,
            expression: "absent(up{job=\"inferscope\"})".to_owned(),
            holds: "5m",
            summary: "Prometheus knows no agent",
            description: "Nothing is scraped by the job `inferscope`: all alerts about servers and GPUs are silent.".to_owned(),
        },
        Alert {
            name: "InferscopeStale",
            severity: Critical,
            expression: "rate(inferscope_ticks_total[5m]) == 0".to_owned(),
            holds: "2m",
            summary: "The agent on {{ $labels.instance }} stands still",
            description: "It answers, but what it shows is old: its pipeline has not ticked for five minutes.".to_owned(),
        },
        Alert {
            name: "InferscopeLosesEvents",
            severity: Warning,
            expression: "sum by (instance, stage, reason) (increase(inferscope_events_lost_total[10m])) > 0".to_owned(),
            holds: "10m",
            summary: "The agent on {{ $labels.instance }} loses events at {{ $labels.stage }} ({{ $labels.reason }})",
            description: "{{ $value | humanize }} in ten minutes. Requests without them are counted, and left out of the times.".to_owned(),
        },
        Alert {
            name: "InferscopeSignalFailed",
            severity: Warning,
            expression: "inferscope_signal_state{state=\"failed\"} == 1".to_owned(),
            holds: "10m",
            summary: "The agent on {{ $labels.instance }} does not measure {{ $labels.signal }}",
            description: "/healthz has the reason.".to_owned(),
        },
        Alert {
            name: "InferscopeRestarts",
            severity: Warning,
            expression: "changes(process_start_time_seconds{job=\"inferscope\"}[1h]) > 3".to_owned(),
            holds: "0m",
            summary: "The agent on {{ $labels.instance }} starts again and again",
            description: "{{ $value }} times in an hour: its log says why it ended.".to_owned(),
        },
    ];
    Group { name: "inferscope-agent", records: Vec::new(), alerts }
}
