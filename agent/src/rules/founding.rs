//! The alerts of the founding document, by their names and thresholds. What is noise on a server of language models keeps its
//! threshold, is `info`, and says why; what to wake somebody by stands in the other groups.

use super::Severity::{Critical, Info, Warning};
use super::objectives::percent;
use super::{Alert, Group};
use crate::signal::latency::bounds::seconds;
use crate::slo::Settings;

const MEMORY: &str = "gpu_memory_used_bytes / gpu_memory_total_bytes";
const GPU_MEMORY: &str = "GPU {{ $labels.gpu }} of {{ $labels.instance }}: its memory is nearly all in use";
const NOT_MEMORY: &str = "As founded: vLLM takes nine tenths of the memory when it starts and divides it itself, so this says nothing \
                          of need; preempted and queued requests do (SlowRequests).";
const GPU_BUSY: &str = "GPU {{ $labels.gpu }} of {{ $labels.instance }} is busy";
const NOT_BUSY: &str =
    "As founded: it only says for how much of the time some kernel ran; a GPU that serves well is busy.";
const LATENCY: &str = "{{ $labels.model }} on {{ $labels.workload }}: answers take long";
const NOT_LATENCY: &str = "As founded, of whole answers: a stream takes as long as its answer is; first tokens and the time per token \
                           say whether it is slow.";
const ACCURACY: &str = "{{ $labels.model }}: fewer predictions are right";

pub(super) fn group(slo: &Settings) -> Group {
    let mut alerts = machine(slo);
    alerts.extend(model(slo));
    Group { name: "inferscope-founding", records: Vec::new(), alerts }
}

fn machine(slo: &Settings) -> Vec<Alert> {
    let share = |what: &str, why: &str| format!("{{{{ $value | humanizePercentage }}}} {what}. {why}");
    let busy = |name, level: f64, holds| Alert {
        name,
        severity: Info,
        expression: format!("avg_over_time(gpu_utilization_percent[5m]) > {level}"),
        holds,
        summary: GPU_BUSY,
        description: format!("It computes {{{{ $value | humanize }}}} % of the time. {NOT_BUSY}"),
    };
    vec![
        Alert {
            name: "GPUHighTemperature",
            severity: Warning,
            expression: "gpu_temperature_celsius > 80".to_owned(),
            holds: "5m",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }} is hot",
            description: "{{ $value }} degrees Celsius. Whether it is slowed down by that says GPUThrottled.".to_owned(),
        },
        Alert {
            name: "GPUMemoryPressure",
            severity: Info,
            expression: format!("({MEMORY}) > 0.9"),
            holds: "2m",
            summary: GPU_MEMORY,
            description: share("of it is in use", NOT_MEMORY),
        },
        Alert {
            name: "GPUOutOfMemory",
            severity: Info,
            expression: format!("({MEMORY}) > 0.95"),
            holds: "2m",
            summary: GPU_MEMORY,
            description: share("of it is in use", NOT_MEMORY),
        },
        busy("GPUUtilizationHigh", slo.gpu_utilization_warning, "15m"),
        busy("GPUUtilizationCritical", slo.gpu_utilization_critical, "15m"),
        Alert {
            name: "GPUUnderused",
            severity: Info,
            expression: format!("avg_over_time(gpu_utilization_percent[1h]) < {}", slo.gpu_utilization_low),
            holds: "1h",
            summary: "GPU {{ $labels.gpu }} of {{ $labels.instance }} is idle for much of the time",
            description: "It computed {{ $value | humanize }} % of the last hour; what that costs shows `vllm_idle_energy_joules_total`."
                .to_owned(),
        },
    ]
}

fn model(slo: &Settings) -> Vec<Alert> {
    let latency = |name, level| Alert {
        name,
        severity: Info,
        expression: format!(
            "histogram_quantile(0.95, rate(vllm_request_duration_seconds_bucket[5m]))\n> {}",
            seconds(level)
        ),
        holds: "5m",
        summary: LATENCY,
        description: format!("The 95th percentile is {{{{ $value | humanizeDuration }}}}. {NOT_LATENCY}"),
    };
    let accuracy = |name, level, holds| Alert {
        name,
        severity: Critical,
        expression: format!(
            "rate(model_correct_predictions_total[1h]) / rate(model_total_predictions_total[1h])\n< {level}"
        ),
        holds,
        summary: ACCURACY,
        description: format!(
            "{{{{ $value | humanizePercentage }}}} of the predictions of {{{{ $labels.source }}}} are right, less than {}.",
            percent(level)
        ),
    };
    vec![
        latency("HighInferenceLatency", slo.p95_latency_target),
        latency("CriticalInferenceLatency", slo.p95_latency_critical),
        accuracy("ModelAccuracyDegraded", slo.accuracy_target, "30m"),
        accuracy("ModelAccuracyCritical", slo.accuracy_critical, "5m"),
        Alert {
            name: "SignificantModelDrift",
            severity: Critical,
            expression: "model_drift_score > 0.5".to_owned(),
            holds: "1h",
            summary: "{{ $labels.model }}: its predictions are others than those of the baseline",
            description:
                "The divergence of {{ $labels.source }} from the baseline is {{ printf \"%.3f\" $value }} nats."
                    .to_owned(),
        },
    ]
}
