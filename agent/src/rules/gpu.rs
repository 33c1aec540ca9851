//! What GPUs say of themselves.

use super::Severity::{Critical, Warning};
use super::{Alert, Group};

/// Share of the time for which clocks may be held down.
const THROTTLED: f64 = 0.1;
/// Degrees to the slowdown from which on a rise matters.
const MARGIN_CELSIUS: f64 = 15.0;
/// In which it would be there.
const AHEAD_SECONDS: u32 = 600;

pub(super) fn group() -> Group {
    let alerts = vec![
        Alert {
            name: "GPULost",
            severity: Critical,
            expression: "gpu_state{state=~\"lost|unresponsive|failed\"} == 1".to_owned(),
            holds: "1m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }} is {{ $labels.state }}",
            description: "Off the bus, to be reset, or its driver does not answer. Its other alerts are silenced by this one.".to_owned(),
        },
        Alert {
            name: "GPUThrottled",
            severity: Warning,
            expression: format!(
                "rate(gpu_throttle_seconds_total{{cause=~\"sw_thermal|hw_thermal|thermal|power_brake|hw_slowdown\"}}[5m]) > {THROTTLED}"
            ),
            holds: "5m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }} is slowed down by {{ $labels.cause }}",
            description: "Its clocks are held down for {{ $value | humanizePercentage }} of the time; requests that paid for it are in \
                          `vllm_requests_under_throttle_total`."
                .to_owned(),
        },
        Alert {
            name: "GPUTemperatureRising",
            severity: Warning,
            expression: format!(
                "gpu_temperature_margin_celsius < {MARGIN_CELSIUS}\nand\npredict_linear(gpu_temperature_margin_celsius[5m], {AHEAD_SECONDS}) < 0"
            ),
            holds: "2m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }} will be slowed down soon",
            description: "It is {{ $value }} degrees from its slowdown, and at this rate there within ten minutes.".to_owned(),
        },
        Alert {
            name: "GPUFault",
            severity: Critical,
            expression: faults("instance, gpu, uuid, name, class, xid", "class!=\"application\""),
            holds: "0m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }}: fault {{ $labels.xid }} ({{ $labels.class }})",
            description: "The driver told of a fault of the {{ $labels.class }}; `inferscope top` and /api/v1/gpus say what to do.".to_owned(),
        },
        Alert {
            name: "GPUApplicationFault",
            severity: Warning,
            expression: faults("instance, gpu, uuid, name, xid", "class=\"application\""),
            holds: "0m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }}: a program failed on it ({{ $labels.xid }})",
            description: "A kernel touched memory that is not its own, or the like: the server's fault, not the GPU's.".to_owned(),
        },
        Alert {
            name: "GPUMemoryErrors",
            severity: Warning,
            expression: "gpu_remapped_rows_pending == 1 or gpu_remapped_rows_failed == 1 or gpu_retired_pages_pending == 1".to_owned(),
            holds: "0m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }}: its memory needs a reset, or is worn out",
            description: "Rows wait to be replaced, or one could not be: drain the node and reset the GPU; if it comes back, have it replaced."
                .to_owned(),
        },
    ];
    Group { name: "inferscope-gpu", records: Vec::new(), alerts }
}

/// Faults of ten minutes. A code has no series before its first fault, and what was not there has not increased: a series that is
/// new counts as it is.
fn faults(by: &str, matches: &str) -> String {
    let series = format!("gpu_xid_errors_total{{{matches}}}");
    format!(
        "sum by ({by}) (\n  increase({series}[10m]) > 0\n  or\n  ({series} unless {series} offset 10m) > 0\n) > 0"
    )
}
