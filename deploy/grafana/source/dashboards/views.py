"""The founding views: each morning, at peak, each week, each month."""

from .parts import *

P95 = "histogram_quantile(0.95, sum by (le{by}) (rate(vllm_request_duration_seconds_bucket{{{m}}}[{window}]{offset})))"


def p95(window: str, offset: str = "", by: str = "") -> str:
    return P95.format(by=by, m=MODEL, window=window, offset=offset)


def errors(window: str) -> str:
    return (f"sum(increase(vllm_request_errors_total{{{MODEL}}}[{window}])) / "
            f"sum(increase(vllm_requests_total{{{MODEL}}}[{window}]))")


def daily():
    return filled(
        empty("daily", "Each morning: the night", "Accuracy, drift and errors since yesterday evening.",
              span=("now-12h", "now"), refresh="5m"),
        number("Requests", "", "short", Query(f"sum(increase(vllm_requests_total{{{MODEL}}}[$__range]))"), over=False),
        number("Errors", "Share.", "percentunit", Query(errors("$__range")), over=False,
               bounds=[(0.005, YELLOW), (0.01, RED)]),
        number("Lowest accuracy", "Of the night.", "percentunit",
               Query(f"min(min_over_time(model_accuracy{{{SCORED}}}[$__range]))"), over=False,
               bounds=[(0.88, YELLOW), (0.92, GREEN)], base=RED),
        number("Largest divergence", "Of the night.", "short",
               Query(f"max(max_over_time(model_drift_score{{{SCORED}}}[$__range]))"), over=False,
               bounds=[(0.2, YELLOW), (0.5, RED)]),
        number("Lowest confidence", "Of the night.", "percentunit",
               Query(f"min(min_over_time(prediction_confidence{{{SCORED}}}[$__range]))"), over=False),
        number("Hottest GPU", "Of the night.", "celsius",
               Query(f"max(max_over_time(gpu_temperature_celsius{{{NODE}}}[$__range]))"), over=False,
               bounds=[(75, YELLOW), (80, RED)]),
        lines("Accuracy", "", "percentunit", Query(f"model_accuracy{{{SCORED}}}", "{{model}}"),
              Query(f"model_validation_accuracy{{{SCORED}}}", "{{model}}: validation ({{source}})"), most=1, least=None),
        lines("Drift", "", "short", Query(f"model_drift_score{{{SCORED}}}", "{{model}}: divergence"),
              Query(f"kolmogorov_smirnov_test_p_value{{{SCORED}}}", "{{model}}: KS p value")),
        lines("Errors", "", "reqps",
              Query(f"sum by (model) (rate(vllm_request_errors_total{{{MODEL}}}{RATE}))", "{{model}}")),
        lines("Slow requests", "By cause.", "reqps",
              Query(f"sum by (cause) (rate(vllm_slow_requests_total{{{MODEL}}}{RATE}))", "{{cause}}"), stacked=True),
        bars("Alerts of the night", "Rounds of the rules for which each fired.", "short",
             Query('max by (alertname) (count_over_time(ALERTS{alertstate="firing"}[$__range]))', "{{alertname}}"),
             width=WIDE),
    )


def peak():
    good = (f"sum by (objective) (rate(slo_good_requests_total{{{MODEL}}}{RATE})) / "
            f"sum by (objective) (rate(slo_requests_total{{{MODEL}}}{RATE}))")
    return filled(
        empty("peak", "At peak", "Latency and throughput objectives while it is busy.", span=("now-1h", "now"),
              refresh="10s"),
        lines("P95 latency", "Target 80 ms, warning 100, critical 150.", "s", Query(p95("$__rate_interval", by=", model"), "{{model}}"),
              bounds=[(0.08, YELLOW), (0.15, RED)]),
        lines("Throughput", "Requests a second, now and a day ago.", "reqps",
              Query(f"sum(rate(vllm_requests_total{{{MODEL}}}{RATE}))", "now"),
              Query(f"sum(rate(vllm_requests_total{{{MODEL}}}[1h] offset 1d))", "a day ago, mean of an hour")),
        lines("Objectives", "Share of requests that met each.", "percentunit", Query(good, "{{objective}}"),
              most=1, least=None),
        lines("Tokens a second", "Generated.", "short",
              Query(f"sum by (model) (rate(vllm_generation_tokens_total{{{MODEL}}}{RATE}))", "{{model}}"), stacked=True),
        lines("Under way", "", "short", Query(f"sum by (workload) (vllm_requests_in_flight{{{MODEL}}})", "{{workload}}")),
        lines("GPU utilization", "Target 60 to 80 %.", "percent",
              Query(f"avg by (instance) (gpu_utilization_percent{{{NODE}}})", "{{instance}}"),
              bounds=[(90, YELLOW), (95, RED)], most=100),
        lines("Where the time goes", "", "s",
              Query(f"sum by (cause) (rate(vllm_request_blame_seconds_total{{{MODEL}}}{RATE}))", "{{cause}}"),
              stacked=True, width=WIDE),
    )


def weekly():
    return filled(
        empty("weekly", "Each week: slow change", "Trends, and what gets worse too slowly for an alert.",
              span=("now-7d", "now"), refresh="15m"),
        lines("P95 of a day", "And of the same day a week ago.", "s", Query(p95("1d"), "this week"),
              Query(p95("1d", " offset 7d"), "a week ago")),
        lines("Requests of a day", "And of the same day a week ago.", "short",
              Query(f"sum(increase(vllm_requests_total{{{MODEL}}}[1d]))", "this week"),
              Query(f"sum(increase(vllm_requests_total{{{MODEL}}}[1d] offset 7d))", "a week ago")),
        lines("P95 a day, slope", "Milliseconds that the P95 rises in a day, by a line through the week.", "ms",
              Query(f"deriv(inference_latency_p95_seconds{{{MODEL}}}[7d]) * 86400 * 1000", "{{model}} on {{workload}}"),
              least=None),
        lines("Confidence of a day", "", "percentunit",
              Query(f"avg by (model) (avg_over_time(prediction_confidence{{{SCORED}}}[1d]))", "{{model}}"), most=1,
              least=None),
        lines("Accuracy of a day", "", "percentunit",
              Query(f"avg by (model) (avg_over_time(model_accuracy{{{SCORED}}}[1d]))", "{{model}}"),
              Query(f"avg by (model) (avg_over_time(mmlu_benchmark_score{{{SCORED}}}[1d]))", "{{model}}: MMLU"),
              most=1, least=None),
        lines("Divergence of a day", "", "short",
              Query(f"max by (model) (max_over_time(model_drift_score{{{SCORED}}}[1d]))", "{{model}}")),
        lines("Joules per generated token of a day", "", "joule",
              Query(f"sum(increase(vllm_energy_joules_total{{{MODEL}}}[1d])) / "
                    f"sum(increase(vllm_generation_tokens_total{{{MODEL}}}[1d]))", "all models")),
        lines("Throttled share of a day", "By cause.", "percentunit",
              Query(f"avg by (cause) (increase(gpu_throttle_seconds_total{{{NODE}}}[1d])) / 86400", "{{cause}}")),
    )


def monthly():
    left = (f"1 - (1 - sum by (objective) (increase(slo_good_requests_total{{{MODEL}}}[30d])) / "
            f"sum by (objective) (increase(slo_requests_total{{{MODEL}}}[30d]))) / "
            f"(1 - max by (objective) (slo_objective_ratio{{{NODE}}}))")
    return filled(
        empty("monthly", "Each month: cost and return", "Cost per inference, use and error budget of 30 days.",
              span=("now-30d", "now"), refresh="1h"),
        number("Cost", "Of 30 days, idle time included.", "short", Query(spent("30d")), over=False),
        number("Requests", "Of 30 days.", "short", Query(f"sum(increase(vllm_requests_total{{{MODEL}}}[30d]))"), over=False),
        number("Cost per inference", "Idle time included.", "short",
               Query(f"{spent('30d')} / sum(increase(vllm_requests_total{{{MODEL}}}[30d]))"), over=False, decimals=6),
        number("Per million tokens", "Generated; idle time included.", "short",
               Query(f"{spent('30d')} / sum(increase(vllm_generation_tokens_total{{{MODEL}}}[30d])) * 1e6"), over=False),
        number("Use", "Share of the cost while requests were under way.", "percentunit",
               Query(f"sum(increase(cost_total{{{MODEL}}}[30d])) / {spent('30d')}"), over=False),
        number("GPU energy", "Of 30 days.", "joule", Query(f"sum(increase(gpu_energy_joules_total{{{NODE}}}[30d]))"),
               over=False),
        lines("Cost of a day", "By model, and idle.", "short",
              Query(f"sum by (model) (increase(cost_total{{{MODEL}}}[1d]))", "{{model}}"),
              Query(f"sum(increase(cost_idle_total{{{NODE}}}[1d]))", "idle"), stacked=True),
        lines("Cost per inference of a day", "Idle time included.", "short",
              Query(f"{spent('1d')} / sum(increase(vllm_requests_total{{{MODEL}}}[1d]))", "all models")),
        bars("Error budget left", "By objective.", "percentunit", Query(left, "{{objective}}")),
        bars("Uptime", "Share of 30 days in which each server served.", "percentunit",
             Query(f"avg by (workload) (avg_over_time(vllm_workload_up{{{SERVER}}}[30d]))", "{{workload}}")),
    )


def boards():
    return [daily(), peak(), weekly(), monthly()]
