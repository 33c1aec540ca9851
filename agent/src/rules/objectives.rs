//! Error budgets: how fast they burn, over several windows at once.
//!
//! An alert needs a short window, which says that it still goes on, and a long one, which says that it is no moment's noise: 14.4
//! times the budget over an hour takes 2 % of that of 30 days, 6 times over six hours 5 %, 3 times over a day 10 %, and 1 time
//! over three days 10 %. A budget of 5 % cannot burn 20 times as fast: where a threshold is more than nine tenths, that is it.

use super::Severity::{Critical, Info, Warning};
use super::{Alert, Group, Record, Severity};
use crate::signal::latency::bounds::seconds;
use crate::slo::Settings;

const WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];
/// Fewer requests in the long window say nothing.
const REQUESTS_LEAST: u32 = 10;
/// Burn rate, long window, short window.
const FAST: [(f64, &str, &str); 2] = [(14.4, "1h", "5m"), (6.0, "6h", "30m")];
const SLOW: [(f64, &str, &str); 2] = [(3.0, "1d", "2h"), (1.0, "3d", "6h")];

pub(super) fn group(slo: &Settings) -> Group {
    Group { name: "inferscope-objectives", records: records(), alerts: alerts(slo) }
}

fn records() -> Vec<Record> {
    let mut records = Vec::new();
    for window in WINDOWS {
        let of = |family: &str| format!("sum by (model, workload, objective) (rate({family}[{window}]))");
        records.push(Record {
            name: format!("objective:slo_bad_requests:ratio_rate{window}"),
            expression: format!("1 - {}\n  / {}", of("slo_good_requests_total"), of("slo_requests_total")),
        });
    }
    for (_, long, _) in FAST.into_iter().chain(SLOW) {
        let count = format!("sum by (model, workload, objective) (increase(slo_requests_total[{long}]))");
        records.push(Record { name: format!("objective:slo_requests:increase{long}"), expression: count });
    }
    for window in WINDOWS {
        records.push(Record {
            name: format!("workload:vllm_workload_down:ratio{window}"),
            expression: format!("1 - avg by (workload) (avg_over_time(vllm_workload_up[{window}]))"),
        });
    }
    records
}

fn alerts(slo: &Settings) -> Vec<Alert> {
    let down = 1.0 - slo.uptime_target;
    let down = |rates: &[(f64, &str, &str)]| uptime(rates, down);
    let mut alerts = vec![
        burn("ErrorBudgetBurnsFast", Critical, &burning(&FAST, "!="), "2m", "fast"),
        burn("ErrorBudgetBurns", Warning, &burning(&SLOW, "!="), "15m", "steadily"),
        Alert {
            name: "LatencyBudgetBurns",
            severity: Info,
            expression: format!("{}\nor\n{}", burning(&FAST, "="), burning(&SLOW, "=")),
            holds: "15m",
            summary: "{{ $labels.model }} on {{ $labels.workload }}: whole answers take longer than the objective allows",
            description: format!(
                "{{{{ $value | humanizePercentage }}}} of the requests took longer than {} s. As founded: of streams the time grows \
                 with the length of the answer, so wake nobody by it; set `slo.p95_ttft_target` and \
                 `slo.p95_time_per_output_token_target`.",
                seconds(slo.p95_latency_target)
            ),
        },
        uptime_alert("UptimeBudgetBurnsFast", Critical, down(&FAST), "2m"),
        uptime_alert("UptimeBudgetBurns", Warning, down(&SLOW), "15m"),
    ];
    alerts.extend(levels(slo));
    alerts
}

/// Objectives that burn at one of these rates; `latency` is the founding one of whole answers.
fn burning(rates: &[(f64, &str, &str)], latency: &str) -> String {
    let part = |(rate, long, short): &(f64, &str, &str)| {
        let bad = |window: &str| {
            format!(
                "objective:slo_bad_requests:ratio_rate{window}{{objective{latency}\"latency\"}}\n    \
                 > on (objective) group_left ()\n      \
                 clamp_max({rate} * (1 - max by (objective) (slo_objective_ratio)), 0.9)"
            )
        };
        format!(
            "(\n    {}\n  and\n    {}\n  and\n    objective:slo_requests:increase{long} >= {REQUESTS_LEAST}\n)",
            bad(long),
            bad(short)
        )
    };
    rates.iter().map(part).collect::<Vec<_>>().join("\nor\n")
}

fn burn(name: &'static str, severity: Severity, expression: &str, holds: &'static str, how: &str) -> Alert {
    Alert {
        name,
        severity,
        expression: expression.to_owned(),
        holds,
        summary: "{{ $labels.model }} on {{ $labels.workload }}: the error budget of {{ $labels.objective }} burns",
        description: format!(
            "{{{{ $value | humanizePercentage }}}} of the requests miss the objective {{{{ $labels.objective }}}}: its budget burns {how}."
        ),
    }
}

fn uptime(rates: &[(f64, &str, &str)], budget: f64) -> String {
    let part = |(rate, long, short): &(f64, &str, &str)| {
        let threshold = round(rate * budget);
        format!(
            "(\n    workload:vllm_workload_down:ratio{long} > {threshold}\n  and\n    \
             workload:vllm_workload_down:ratio{short} > {threshold}\n)"
        )
    };
    rates.iter().map(part).collect::<Vec<_>>().join("\nor\n")
}

fn uptime_alert(name: &'static str, severity: Severity, expression: String, holds: &'static str) -> Alert {
    Alert {
        name,
        severity,
        expression,
        holds,
        summary: "{{ $labels.workload }}: it is down more than its objective allows",
        description: "It did not serve for {{ $value | humanizePercentage }} of the time.".to_owned(),
    }
}

/// Levels that are set beside the target.
fn levels(slo: &Settings) -> Vec<Alert> {
    let errors = "sum by (model, workload) (rate(vllm_request_errors_total[5m]))\n  \
                  / sum by (model, workload) (rate(vllm_requests_total[5m]))";
    let failing = |name, severity, level: f64, holds| Alert {
        name,
        severity,
        expression: format!("{errors}\n> {level}"),
        holds,
        summary: "{{ $labels.model }} on {{ $labels.workload }}: requests fail",
        description: format!(
            "{{{{ $value | humanizePercentage }}}} of the requests fail by the server's fault, more than {}.",
            percent(level)
        ),
    };
    let mut alerts = vec![
        failing("ErrorRateHigh", Warning, slo.error_rate_warning, "10m"),
        failing("ErrorRateCritical", Critical, slo.error_rate_critical, "5m"),
    ];
    let first = "vllm_time_to_first_token_seconds";
    let next = "vllm_time_per_output_token_seconds";
    for (name, severity, family, level, summary) in [
        ("TimeToFirstTokenHigh", Warning, first, slo.p95_ttft_warning, FIRST),
        ("TimeToFirstTokenCritical", Critical, first, slo.p95_ttft_critical, FIRST),
        ("TimePerOutputTokenHigh", Warning, next, slo.p95_time_per_output_token_warning, NEXT),
        ("TimePerOutputTokenCritical", Critical, next, slo.p95_time_per_output_token_critical, NEXT),
    ] {
        let Some(level) = level.map(seconds) else { continue };
        alerts.push(Alert {
            name,
            severity,
            expression: format!(
                "histogram_quantile(0.95, sum by (model, workload, le) (rate({family}_bucket[5m])))\n> {level}"
            ),
            holds: "5m",
            summary,
            description: format!("The 95th percentile is {{{{ $value | humanizeDuration }}}}, more than {level} s."),
        });
    }
    alerts
}

const FIRST: &str = "{{ $labels.model }} on {{ $labels.workload }}: first tokens come late";
const NEXT: &str = "{{ $labels.model }} on {{ $labels.workload }}: tokens come slowly";

/// Without what a product of decimals leaves at its end.
fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", round(share * 100.0))
}
