"""The fleet: every node, worst first."""

from .parts import *


def board():
    def by_node(what: str) -> str:
        return f"by (cluster, instance) ({what})"

    return filled(
        empty("fleet", "Fleet", "Every node of every cluster in a line.", kinds="cn"),
        number("Nodes", "With an agent that is scraped.", "short", Query(f"count(inferscope_build_info{{{NODE}}})")),
        number("Servers", "That serve.", "short", Query(f"sum(vllm_workload_up{{{NODE}}})")),
        number("GPUs", "", "short", Query(f"count(gpu_info{{{NODE}}})")),
        number("Requests per second", "", "reqps", Query(f"sum(rate(vllm_requests_total{{{NODE}}}{RATE}))")),
        number("P95 latency of all", "", "s", Query(
            f"histogram_quantile(0.95, sum by (le) (rate(vllm_request_duration_seconds_bucket{{{NODE}}}{RATE})))")),
        number("Power", "", "watt", Query(f"sum(gpu_power_watts{{{NODE}}})")),
        grid("Nodes", "What each does.", ["cluster", "instance"], [
            Column("Servers up", "short", f"sum {by_node(f'vllm_workload_up{{{NODE}}}')}"),
            Column("Requests", "reqps", f"sum {by_node(f'rate(vllm_requests_total{{{NODE}}}[5m])')}"),
            Column("P95", "s", f"max {by_node(f'inference_latency_p95_seconds{{{NODE}}}')}"),
            Column("Errors", "percentunit",
                   f"sum {by_node(f'rate(vllm_request_errors_total{{{NODE}}}[5m])')} / "
                   f"sum {by_node(f'rate(vllm_requests_total{{{NODE}}}[5m])')}"),
            Column("GPUs", "short", f"count {by_node(f'gpu_info{{{NODE}}}')}"),
            Column("Hottest", "celsius", f"max {by_node(f'gpu_temperature_celsius{{{NODE}}}')}"),
            Column("Power", "watt", f"sum {by_node(f'gpu_power_watts{{{NODE}}}')}"),
            Column("Lost events", "short", f"sum {by_node(f'increase(inferscope_events_lost_total{{{NODE}}}[1h])')}"),
        ], height=10),
        lines("Requests by node", "", "reqps",
              Query(f"sum by (instance) (rate(vllm_requests_total{{{NODE}}}{RATE}))", "{{instance}}"), stacked=True),
        lines("P95 by node", "", "s",
              Query(f"max by (instance) (inference_latency_p95_seconds{{{NODE}}})", "{{instance}}")),
        heat_by("GPU utilization", "How many GPUs are how busy.", "percent",
                Query(f"gpu_utilization_percent{{{NODE}}}", "{{instance}} {{gpu}}")),
        heat_by("GPU temperature", "How many GPUs are how hot.", "celsius",
                Query(f"gpu_temperature_celsius{{{NODE}}}", "{{instance}} {{gpu}}")),
        grid("Servers", "Where each runs.", ["cluster", "instance", "workload", "kind", "namespace", "pod", "container"],
             [Column("Server", "none", f"inferscope_workload_info{{{NODE}}}")]),
        grid("Agents", "Versions of the agent and its hooks.", ["cluster", "instance", "version", "program", "hook"],
             [Column("Hooked", "none", f"inferscope_hook_info{{{NODE}}}")]),
    )
