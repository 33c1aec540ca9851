"""SLO and error budget."""

from .parts import *

WINDOWS = ["5m", "1h", "6h", "1d", "3d"]
BUDGET = "30d"


def board():
    good = f"sum by (objective) (increase(slo_good_requests_total{{{MODEL}}}[{BUDGET}]))"
    all_of = f"sum by (objective) (increase(slo_requests_total{{{MODEL}}}[{BUDGET}]))"
    allowed = f"(1 - max by (objective) (slo_objective_ratio{{{NODE}}}))"
    left = f"1 - (1 - {good} / {all_of}) / {allowed}"
    up = f"avg by (workload) (avg_over_time(vllm_workload_up{{{SERVER}}}[{BUDGET}]))"
    return filled(
        empty("slo", "SLO and error budget", "Each request is judged against its objectives by the agent.",
              span=("now-24h", "now")),
        bars("Error budget left", "Of 30 days, by objective; below zero it is overspent.", "percentunit",
             Query(left, "{{objective}}")),
        grid("Objectives", "Of 30 days.", ["objective"],
             [Column("Objective", "percentunit", f"max by (objective) (slo_objective_ratio{{{NODE}}})"),
              Column("Met", "percentunit", f"{good} / {all_of}"),
              Column("Requests", "short", all_of),
              Column("Budget left", "percentunit", left)], width=HALF),
        row("Burn rate"),
        *[
            lines(f"Burn rate of {window}", "1 spends the budget in exactly its period; 14.4 pages.", "short",
                  Query(f"max by (objective) (objective:slo_bad_requests:ratio_rate{window}) / {allowed}",
                        "{{objective}}"), width=THIRD, bounds=[(1, YELLOW), (14.4, RED)])
            for window in WINDOWS
        ],
        lines("Requests that met their objective", "Share.", "percentunit",
              Query(f"sum by (objective) (rate(slo_good_requests_total{{{MODEL}}}{RATE})) / "
                    f"sum by (objective) (rate(slo_requests_total{{{MODEL}}}{RATE}))", "{{objective}}"),
              width=THIRD, most=1, least=None),
        row("The founding table"),
        lines("P95 latency", "Target 80 ms, warning 100 ms, critical 150 ms.", "s",
              Query("histogram_quantile(0.95, sum by (le, model) "
                    f"(rate(vllm_request_duration_seconds_bucket{{{MODEL}}}{RATE})))", "{{model}}"),
              width=THIRD, bounds=[(0.08, YELLOW), (0.15, RED)]),
        lines("Accuracy", "Target 92 %, warning 91 %, critical 88 %.", "percentunit",
              Query(f"model_accuracy{{{SCORED}}}", "{{model}}"), width=THIRD,
              bounds=[(0.88, YELLOW), (0.92, GREEN)], least=None, most=1),
        lines("Errors", "Target below 0.1 %, warning 0.5 %, critical 1 %.", "percentunit",
              Query(f"sum by (model) (rate(vllm_request_errors_total{{{MODEL}}}{RATE})) / "
                    f"sum by (model) (rate(vllm_requests_total{{{MODEL}}}{RATE}))", "{{model}}"),
              width=THIRD, bounds=[(0.005, YELLOW), (0.01, RED)]),
        lines("GPU utilization", "Target 60 to 80 %, warning 90 %, critical 95 %.", "percent",
              Query(f"gpu_utilization_percent{{{NODE}}}", "GPU {{gpu}} of {{instance}}"), width=THIRD,
              bounds=[(90, YELLOW), (95, RED)], most=100),
        bars("Uptime of 30 days", "Share of time in which a server served. Target 99.9 %.", "percentunit",
             Query(up, "{{workload}}"), width=THIRD),
        lines("Downtime of an hour", "Share, by server.", "percentunit",
              Query("workload:vllm_workload_down:ratio1h", "{{workload}}"), width=THIRD),
    )
