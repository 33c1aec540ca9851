"""Real-time inference: how fast are answers, how many come, how many fail?"""

from .parts import *

QUANTILES = [("0.5", "P50"), ("0.95", "P95"), ("0.99", "P99")]


def quantiles(family: str) -> list[Query]:
    return [
        Query(f"histogram_quantile({share}, sum by (le) (rate({family}_bucket{{{MODEL}}}{RATE})))", name)
        for share, name in QUANTILES
    ]


def board():
    requests = f"sum(rate(vllm_requests_total{{{MODEL}}}{RATE}))"
    p95 = f"histogram_quantile(0.95, sum by (le) (rate(vllm_request_duration_seconds_bucket{{{MODEL}}}{RATE})))"
    return filled(
        empty("serving", "Real-time inference", "Latency, traffic and errors of the model servers."),
        number("Requests per second", "Inference requests that ended.", "reqps", Query(requests)),
        number("P95 latency", "First byte of the request to the last byte of the response.", "s", Query(p95),
               bounds=[(0.1, YELLOW), (0.15, RED)]),
        number("P95 time to first token", "Of streamed answers.", "s",
               Query(quantiles("vllm_time_to_first_token_seconds")[1].expr)),
        number("Errors", "Share of the requests that the server failed.", "percentunit",
               Query(f"sum(rate(vllm_request_errors_total{{{MODEL}}}{RATE})) / {requests}"),
               bounds=[(0.005, YELLOW), (0.01, RED)]),
        number("In flight", "Requests under way.", "short", Query(f"sum(vllm_requests_in_flight{{{MODEL}}})")),
        number("Generated tokens per second", "By the usage on the wire.", "short",
               Query(f"sum(rate(vllm_generation_tokens_total{{{MODEL}}}{RATE}))")),
        row("Latency"),
        lines("Request duration", "Quantiles of whole requests, with the levels of the founding objectives.", "s",
              *quantiles("vllm_request_duration_seconds"), bounds=[(0.1, YELLOW), (0.15, RED)]),
        heat("Request duration, all of it", "How many requests per second took how long.", "s",
             f"sum by (le) (rate(vllm_request_duration_seconds_bucket{{{MODEL}}}{RATE}))"),
        lines("Time to first token", "First byte of the request to the first event with a token.", "s",
              *quantiles("vllm_time_to_first_token_seconds"), width=THIRD),
        lines("Time per output token", "After the first, where usage is on the wire.", "s",
              *quantiles("vllm_time_per_output_token_seconds"), width=THIRD),
        lines("Between chunks", "From one write with tokens to the next.", "s",
              *quantiles("vllm_inter_chunk_latency_seconds"), width=THIRD),
        lines("Mean duration by model", "Sum of the durations by the number of requests.", "s",
              Query(f"sum by (model) (rate(vllm_request_duration_seconds_sum{{{MODEL}}}{RATE})) / "
                    f"sum by (model) (rate(vllm_requests_total{{{MODEL}}}{RATE}))", "{{model}}")),
        lines("P95 of five minutes by model", "As the agent itself has it, exact to two digits.", "s",
              Query(f"inference_latency_p95_seconds{{{MODEL}}}", "{{model}} on {{workload}}")),
        row("Traffic"),
        lines("Requests by model", "Those that ended.", "reqps",
              Query(f"sum by (model) (rate(vllm_requests_total{{{MODEL}}}{RATE}))", "{{model}}"), stacked=True),
        lines("Requests by outcome", "ok, or how they did not end well.", "reqps",
              Query(f"sum by (outcome) (rate(vllm_request_outcomes_total{{{MODEL}}}{RATE}))", "{{outcome}}"),
              stacked=True),
        lines("Error rate", "Share of the requests that the server failed, with the founding levels.", "percentunit",
              Query(f"sum by (model) (rate(vllm_request_errors_total{{{MODEL}}}{RATE})) / "
                    f"sum by (model) (rate(vllm_requests_total{{{MODEL}}}{RATE}))", "{{model}}"),
              bounds=[(0.005, YELLOW), (0.01, RED)]),
        lines("Under way", "Requests without an end yet, and those of which no byte passes.", "short",
              Query(f"sum(vllm_requests_in_flight{{{MODEL}}})", "in flight"),
              Query(f"sum by (why) (vllm_requests_stalled{{{MODEL}}})", "stalled, {{why}}")),
        lines("Tokens", "By the usage on the wire.", "short",
              Query(f"sum(rate(vllm_prompt_tokens_total{{{MODEL}}}{RATE}))", "prompt"),
              Query(f"sum(rate(vllm_generation_tokens_total{{{MODEL}}}{RATE}))", "generated")),
        lines("How answers ended", "Choices by finish reason, and empty answers.", "short",
              Query(f"sum by (reason) (rate(vllm_responses_finished_total{{{MODEL}}}{RATE}))", "{{reason}}"),
              stacked=True),
        row("Servers and GPUs"),
        states("Servers", "Whether each serves.", Query(f"vllm_workload_up{{{SERVER}}}", "{{workload}}"),
               {"0": ("down", RED), "1": ("serves", GREEN)}),
        lines("GPU memory", "Share that processes have. vLLM takes 90 % when it starts.", "percentunit",
              Query(f"gpu_memory_used_bytes{{{NODE}}} / gpu_memory_total_bytes{{{NODE}}}", "GPU {{gpu}} of {{instance}}"),
              most=1),
        lines("GPU utilization", "Time in which any kernel ran.", "percent",
              Query(f"gpu_utilization_percent{{{NODE}}}", "GPU {{gpu}} of {{instance}}"), most=100),
        lines("Cold starts", "From the start of a server's first process to each phase of its latest start.", "s",
              Query(f"vllm_cold_start_seconds{{{SERVER}}}", "{{workload}}: {{phase}}")),
    )

