"""Model drift: is a model as good as it was?"""

from .parts import *

NAMES = {"0": ("as before", GREEN), "1": ("changed", RED)}


def board():
    def score(name: str) -> Query:
        return Query(f"{name}{{{SCORED}}}", "{{model}} ({{source}})")

    return filled(
        empty("drift", "Model drift", "Confidence, accuracy, distribution shift, benchmark and live change of models.",
              span=("now-24h", "now")),
        number("Confidence", "Mean of all models.", "percentunit", Query(f"avg(prediction_confidence{{{SCORED}}})")),
        number("Lowest accuracy", "Of the newest predictions.", "percentunit",
               Query(f"min(model_accuracy{{{SCORED}}})"), bounds=[(0.88, YELLOW), (0.92, GREEN)], base=RED),
        number("Largest divergence", "Kullback-Leibler, in nats.", "short",
               Query(f"max(model_drift_score{{{SCORED}}})"), bounds=[(0.2, YELLOW), (0.5, RED)]),
        number("Lowest KS p value", "Below 0.05 the distributions are hardly the same.", "short",
               Query(f"min(kolmogorov_smirnov_test_p_value{{{SCORED}}})"), bounds=[(0.05, GREEN)], base=RED),
        number("Lowest MMLU score", "Of every task together.", "percentunit",
               Query(f"min(mmlu_benchmark_score{{{SCORED}}})")),
        number("Models that changed", "By what their requests show.", "short",
               Query(f"count(max by (model, workload) (drift_alarm{{{MODEL}}}) == 1) or vector(0)"),
               bounds=[(1, RED)]),
        row("Trends"),
        lines("Confidence", "Mean token probability of answers, or mean confidence of predictions.", "percentunit",
              score("prediction_confidence"), most=1, least=None),
        lines("Latency", "P95 of five minutes, and its slope over an hour.", "s",
              Query(f"inference_latency_p95_seconds{{{MODEL}}}", "{{model}} on {{workload}}"),
              Query(f"deriv(inference_latency_p95_seconds{{{MODEL}}}[1h]) * 3600", "{{model}}: change an hour"),
              least=None),
        lines("Validation accuracy", "On a fixed set: of files, or of the canary.", "percentunit",
              score("model_validation_accuracy"), bounds=[(0.88, YELLOW), (0.92, GREEN)], most=1, least=None),
        lines("Accuracy of predictions", "Newest recent file; and over every version of it.", "percentunit",
              score("model_accuracy"),
              Query(f"rate(model_correct_predictions_total{{{SCORED}}}[1h]) / "
                    f"rate(model_total_predictions_total{{{SCORED}}}[1h])", "{{model}}: of the last hour"),
              most=1, least=None),
        row("Distribution of predictions"),
        lines("Divergence", "Kullback-Leibler of recent from baseline, in nats; smoothed where a bin is new.", "short",
              score("model_drift_score"), score("drift_kl_smoothed")),
        lines("Kolmogorov-Smirnov", "Statistic, and the probability of one as large by chance.", "short",
              score("drift_kolmogorov_smirnov_statistic"), score("kolmogorov_smirnov_test_p_value"), most=1),
        lines("Other distances", "Jensen-Shannon, population stability, Wasserstein.", "short",
              score("drift_jensen_shannon_distance"), score("drift_population_stability"),
              score("drift_wasserstein_distance")),
        lines("False positives", "Share of the compared predictions.", "percentunit",
              Query(f"rate(false_positives_total{{{SCORED}}}[1h]) / rate(model_total_predictions_total{{{SCORED}}}[1h])",
                    "{{model}}")),
        row("Benchmark and canary"),
        lines("MMLU", "Score by task group.", "percentunit",
              Query(f"mmlu_benchmark_score{{{SCORED}}}", "{{model}}: {{task}} ({{source}})"), most=1),
        lines("Canary", "Share of questions answered right, with its interval of 95 %.", "percentunit",
              Query(f'model_validation_accuracy{{{SCORED}, source="canary"}}', "{{model}}"),
              Query(f"canary_accuracy_interval{{{SCORED}}}", "{{model}}: {{bound}}"), most=1),
        lines("Answers that are others than before", "By the same server with the same files.", "short",
              Query(f"canary_flips{{{SCORED}}}", "{{model}}"),
              Query(f"sum(increase(canary_failures_total{{{SCORED}}}[1h])) or vector(0)", "failures of an hour")),
        lines("Age of scores", "Since files were last seen whole, and since the benchmark began.", "s",
              Query(f"drift_score_age_seconds{{{SCORED}}}", "{{model}} ({{source}})"),
              Query(f"mmlu_score_age_seconds{{{SCORED}}}", "{{model}}: {{task}}"),
              Query(f"time() - canary_last_run_timestamp_seconds{{{SCORED}}}", "{{model}}: canary")),
        row("Live change"),
        states("Changes", "What requests show, compared with what was usual.",
               Query(f"max by (model, workload, of) (drift_alarm{{{MODEL}}})", "{{model}} on {{workload}}: {{of}}"), NAMES),
        lines("Evidence", "As a share of the threshold that raises an alarm.", "percentunit",
              Query(f"drift_statistic{{{MODEL}}}", "{{model}}: {{of}}"),
              bounds=[(1, RED)]),
        lines("Reference", "Part that has been learnt; a line ends where it is whole.", "percentunit",
              Query(f"drift_reference_ratio{{{MODEL}}}", "{{model}}: {{of}}"), most=1),
    )
