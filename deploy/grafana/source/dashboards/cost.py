"""Cost: what the GPUs' time costs, by whom, for what. `cost.gpu_hour` of the agent's configuration is the price."""

from grafana_foundation_sdk.builders import dashboard

from .parts import *


def board():
    range_of = spent("$__range")
    tokens = f"sum(increase(vllm_generation_tokens_total{{{MODEL}}}[$__range]))"
    made = empty("cost", "Cost", "Price of the GPUs' time, idle time apart, in the currency of the configuration.",
                 span=("now-24h", "now"))
    made.with_variable(
        dashboard.TextBoxVariable("price").label("Revenue per million generated tokens").default_value("2")
    )
    return filled(
        made,
        number("In this time range", "Of all GPUs, idle time included.", "short", Query(range_of), over=False),
        number("Idle share", "Of the cost, while no request was under way.", "percentunit",
               Query(f"sum(increase(cost_idle_total{{{NODE}}}[$__range])) / {range_of}"), over=False,
               bounds=[(0.3, YELLOW), (0.6, RED)]),
        number("Per million generated tokens", "Idle time included.", "short",
               Query(f"{range_of} / {tokens} * 1e6"), over=False),
        number("Per thousand requests", "Idle time included.", "short",
               Query(f"{range_of} / sum(increase(vllm_requests_total{{{MODEL}}}[$__range])) * 1000"), over=False),
        number("Return on GPU investment", "Revenue of the generated tokens at the price above, less the cost, by "
               "the cost.", "percentunit", Query(f"{tokens} / 1e6 * $price / {range_of} - 1"), over=False,
               bounds=[(0, GREEN)], base=RED),
        number("Month at this rate", "The rate of this time range for 30 days.", "short",
               Query(f"{range_of} / $__range_s * 86400 * 30"), over=False),
        lines("Cost an hour", "By model while its requests were under way, and idle.", "short",
              Query(f"sum by (model) (rate(cost_total{{{MODEL}}}{RATE})) * 3600", "{{model}}"),
              Query(f"sum by (workload) (rate(cost_idle_total{{{NODE}}}{RATE})) * 3600", "idle, {{workload}}"),
              stacked=True),
        lines("Per million generated tokens", "While requests of the model were under way.", "short",
              Query(f"sum by (model) (rate(cost_total{{{MODEL}}}{RATE})) / "
                    f"sum by (model) (rate(vllm_generation_tokens_total{{{MODEL}}}{RATE})) * 1e6", "{{model}}")),
        lines("Per request", "While requests of the model were under way.", "short",
              Query(f"sum by (model) (rate(cost_total{{{MODEL}}}{RATE})) / "
                    f"sum by (model) (rate(vllm_requests_total{{{MODEL}}}{RATE}))", "{{model}}")),
        lines("Use of the GPUs", "Share of their cost while requests were under way: what business pays for, beside "
              "their utilization.", "percentunit",
              Query(f"sum(rate(cost_total{{{MODEL}}}{RATE})) / "
                    f"(sum(rate(cost_total{{{MODEL}}}{RATE})) + sum(rate(cost_idle_total{{{NODE}}}{RATE})))", "paid for requests"),
              Query(f"avg(gpu_utilization_percent{{{NODE}}}) / 100", "GPU utilization"), most=1),
        grid("By model and server", "In this time range.", ["workload", "model"], [
            Column("Cost", "short", f"sum by (workload, model) (increase(cost_total{{{MODEL}}}[$__range]))"),
            Column("Requests", "short", f"sum by (workload, model) (increase(vllm_requests_total{{{MODEL}}}[$__range]))"),
            Column("Generated tokens", "short",
                   f"sum by (workload, model) (increase(vllm_generation_tokens_total{{{MODEL}}}[$__range]))"),
            Column("Energy", "joule",
                   f"sum by (workload, model) (increase(vllm_energy_joules_total{{{MODEL}}}[$__range]))"),
        ]),
        grid("Currency", "Of every agent.", ["instance", "currency"],
             [Column("Currency", "none", f"cost_currency_info{{{NODE}}}")], height=5),
    )
