//! What users notice of a server, and what holds it up.

use super::Severity::{Critical, Warning};
use super::{Alert, Group, Severity};

/// Share of the requests that may be slow by one cause.
const SLOW_SHARE: f64 = 0.05;
/// Thread seconds per second for which an engine may be held up.
const HELD_UP: f64 = 0.1;
/// As long as a process waits for memory at worst on a healthy node.
const MEMORY_HELD_UP: f64 = 0.05;
/// Requests that wait so long to be read have an event loop before them that does something else.
const READ_DELAY_SECONDS: f64 = 0.1;

pub(super) fn group() -> Group {
    let mut alerts = users();
    alerts.extend(stalls());
    Group { name: "inferscope-serving", records: Vec::new(), alerts }
}

fn users() -> Vec<Alert> {
    vec![
        Alert {
            name: "ServerDown",
            severity: Critical,
            expression: "vllm_workload_up == 0".to_owned(),
            holds: "1m",
            summary: "{{ $labels.workload }} on {{ $labels.instance }} does not serve",
            description: "It has no process, does not listen, has lost an engine, is stopped, or answers nothing: /api/v1/workloads of the \
                          agent says which."
                .to_owned(),
        },
        Alert {
            name: "RequestsStalled",
            severity: Critical,
            expression: "sum by (instance, model, workload, why) (vllm_requests_stalled{why!=\"client_not_reading\", \
                         why!=\"request_unfinished\"}) > 0"
                .to_owned(),
            holds: "2m",
            summary: "{{ $labels.workload }} on {{ $labels.instance }}: requests stand still ({{ $labels.why }})",
            description: "{{ $value }} requests of {{ $labels.model }} have not moved for longer than `request.stalled_after`.".to_owned(),
        },
        Alert {
            name: "SlowRequests",
            severity: Warning,
            expression: format!(
                "sum by (model, workload, cause) (rate(vllm_slow_requests_total[10m]))\n  \
                 / on (model, workload) group_left ()\n    \
                 sum by (model, workload) (rate(vllm_requests_total[10m]))\n> {SLOW_SHARE}"
            ),
            holds: "10m",
            summary: "{{ $labels.model }} on {{ $labels.workload }}: requests are slow by {{ $labels.cause }}",
            description: "{{ $value | humanizePercentage }} of the requests took a multiple of what is usual for their size, and what they \
                          took more of is {{ $labels.cause }}."
                .to_owned(),
        },
        Alert {
            name: "EventLoopDelay",
            severity: Warning,
            expression: format!(
                "histogram_quantile(0.95, sum by (model, workload, le) (rate(vllm_request_read_delay_seconds_bucket[5m])))\n> {READ_DELAY_SECONDS}"
            ),
            holds: "5m",
            summary: "{{ $labels.workload }}: requests wait to be read",
            description: "The 95th percentile from arrival to the first read is {{ $value | humanizeDuration }}: the API server's event loop \
                          is busy with something else."
                .to_owned(),
        },
        Alert {
            name: "EmptyAnswers",
            severity: Warning,
            expression: "sum by (model, workload) (rate(vllm_responses_finished_total{reason=\"empty\"}[10m]))\n  \
                         / sum by (model, workload) (rate(vllm_requests_total[10m]))\n> 0.01"
                .to_owned(),
            holds: "10m",
            summary: "{{ $labels.model }} on {{ $labels.workload }}: answers are empty",
            description: "{{ $value | humanizePercentage }} of the requests got an answer without content: a failure that nobody was told.".to_owned(),
        },
    ]
}

fn stalls() -> Vec<Alert> {
    let held = |name, severity: Severity, causes: &str, level: f64, summary, what: &str| Alert {
        name,
        severity,
        expression: format!(
            "sum by (instance, workload, cause) (rate(stall_seconds_total{{role=~\"engine|worker\", cause=~\"{causes}\"}}[5m]))\n> {level}"
        ),
        holds: "5m",
        summary,
        description: format!(
            "Its threads are held up for {{{{ $value | humanizeDuration }}}} a second by {{{{ $labels.cause }}}}: {what}"
        ),
    };
    vec![
        held(
            "EngineStarved",
            Warning,
            "run_queue",
            HELD_UP,
            "{{ $labels.workload }} on {{ $labels.instance }}: its engine waits for processors",
            "something else runs on them.",
        ),
        held(
            "EngineThrottled",
            Warning,
            "cpu_throttle",
            HELD_UP,
            "{{ $labels.workload }} on {{ $labels.instance }}: its engine has used up its quota",
            "the CPU limit of its control group is too low.",
        ),
        held(
            "EngineStopped",
            Critical,
            "stopped",
            HELD_UP,
            "{{ $labels.workload }} on {{ $labels.instance }}: its engine is stopped",
            "by a signal, a debugger or a frozen control group.",
        ),
        held(
            "MemoryStall",
            Warning,
            "memory_reclaim|major_fault|block_io",
            MEMORY_HELD_UP,
            "{{ $labels.workload }} on {{ $labels.instance }}: its engine waits for memory",
            "memory is short, by the limit of its control group or on the node, or its files are read anew.",
        ),
    ]
}
