"""Why slow: where the time of requests went, and what held the servers' threads up."""

from .parts import *


def board():
    blame = f"vllm_request_blame_seconds_total{{{MODEL}}}"
    stalls = f"stall_seconds_total{{{SERVER}}}"
    return filled(
        empty("slow", "Why slow", "The cause of slow requests, measured in the kernel."),
        lines("Where the time of requests goes", "Wall time of requests by cause, in seconds each second.", "s",
              Query(f"sum by (cause) (rate({blame}{RATE}))", "{{cause}}"), stacked=True),
        lines("Slow requests by cause", "Those that took much longer than usual for their size, by the cause that "
              "has most of the excess.", "reqps",
              Query(f"sum by (cause) (rate(vllm_slow_requests_total{{{MODEL}}}{RATE}))", "{{cause}}"), stacked=True),
        bars("Causes in this time range", "Share of the time of all requests.", "percentunit",
             Query(f"sum by (cause) (increase({blame}[$__range])) / scalar(sum(increase({blame}[$__range])))",
                   "{{cause}}")),
        lines("By phase", "Before the first token, after it, or the whole of an answer that is not streamed.", "s",
              Query(f"sum by (phase) (rate({blame}{RATE}))", "{{phase}}"), stacked=True),
        row("Threads of the servers"),
        heat("Stalls by length", "Single stalls of any thread that are over, per second.", "s",
             f"sum by (le) (rate(stall_duration_seconds_bucket{{{SERVER}}}{RATE}))"),
        lines("Stalls by role", "Time in which threads of a role could not go on.", "s",
              Query(f"sum by (role) (rate({stalls}{RATE}))", "{{role}}"), stacked=True),
        heat("Stalls of the API server's threads", "By length.", "s",
             f'sum by (le) (rate(stall_duration_seconds_bucket{{{SERVER}, role=~"api.*"}}{RATE}))'),
        heat("Stalls of the engine's threads", "By length.", "s",
             f'sum by (le) (rate(stall_duration_seconds_bucket{{{SERVER}, role!~"api.*"}}{RATE}))'),
        lines("Stalls by cause", "Time in which threads could not go on.", "s",
              Query(f"sum by (cause) (rate({stalls}{RATE}))", "{{cause}}"), stacked=True),
        lines("Event loop delay and slow clients", "P99 of what a request waits before the server reads it, and of "
              "what an answer waits because the client takes no more.", "s",
              Query(f"histogram_quantile(0.99, sum by (le) (rate(vllm_request_read_delay_seconds_bucket{{{MODEL}}}{RATE})))",
                    "read delay"),
              Query(f"histogram_quantile(0.99, sum by (le) (rate(vllm_response_send_wait_seconds_bucket{{{MODEL}}}{RATE})))",
                    "send wait")),
        row("Control group"),
        lines("Pressure", "Share of time in which some, or all, tasks waited for a resource.", "percentunit",
              Query(f"rate(cgroup_pressure_seconds_total{{{SERVER}}}{RATE})", "{{workload}}: {{resource}}, {{kind}}")),
        lines("Processor quota", "Share of the quota's periods in which the group used it up.", "percentunit",
              Query(f"rate(cgroup_cpu_throttled_periods_total{{{SERVER}}}{RATE}) / "
                    f"rate(cgroup_cpu_periods_total{{{SERVER}}}{RATE})", "{{workload}}"), most=1),
        lines("Time stopped by the quota", "Of all processors together.", "s",
              Query(f"rate(cgroup_cpu_throttled_seconds_total{{{SERVER}}}{RATE})", "{{workload}}")),
        lines("Memory", "Charged to the group, page cache included, and its limit.", "bytes",
              Query(f"cgroup_memory_bytes{{{SERVER}}}", "{{workload}}"),
              Query(f"cgroup_memory_limit_bytes{{{SERVER}}}", "{{workload}}: limit")),
        lines("Memory events", "Held up over memory.high, at the limit, or killed by it.", "short",
              Query(f"sum by (workload, event) (increase(cgroup_memory_events_total{{{SERVER}}}{RATE}))",
                    "{{workload}}: {{event}}")),
        lines("Major faults", "Pages read from disk.", "short",
              Query(f"rate(cgroup_major_faults_total{{{SERVER}}}{RATE})", "{{workload}}")),
        row("GPU and engine"),
        lines("Requests while clocks were held down", "By what held them.", "reqps",
              Query(f"sum by (cause) (rate(vllm_requests_under_throttle_total{{{MODEL}}}{RATE}))", "{{cause}}"),
              stacked=True),
        lines("Time to first token: socket and engine", "Means of the same requests, measured by the agent at the "
              "socket, and by the engine. The difference is the server's own front.", "s",
              Query(f"sum(rate(vllm_time_to_first_token_compared_wire_seconds_total{{{SERVER}}}{RATE})) / "
                    f"sum(rate(vllm_time_to_first_token_compared_requests_total{{{SERVER}}}{RATE}))", "at the socket"),
              Query(f"sum(rate(vllm_time_to_first_token_compared_engine_seconds_total{{{SERVER}}}{RATE})) / "
                    f"sum(rate(vllm_time_to_first_token_compared_requests_total{{{SERVER}}}{RATE}))", "in the engine")),
    )
