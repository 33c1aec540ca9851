"""The agent itself: what it costs, and what it lost."""

from .parts import *

JOB = 'job="inferscope", ' + NODE


def board():
    lost = f"inferscope_events_lost_total{{{NODE}}}"
    return filled(
        empty("agent", "The agent", "What inferscope costs, what it lost, and whether it is well.", kinds="cn"),
        number("Agents", "", "short", Query(f"count(inferscope_build_info{{{NODE}}})")),
        number("Processor", "Of the busiest agent, of one processor.", "percentunit",
               Query(f"max(rate(process_cpu_seconds_total{{{JOB}}}{RATE}))"), bounds=[(0.02, YELLOW), (0.1, RED)]),
        number("Memory", "Of the largest agent, without the kernel's tables.", "bytes",
               Query(f"max(process_resident_memory_bytes{{{JOB}}})")),
        number("Lost events", "In this time range.", "short", Query(f"sum(increase({lost}[$__range]))"), bounds=[(1, RED)]),
        number("Failed signals", "That stopped at an error.", "short",
               Query(f'count(inferscope_signal_state{{{NODE}, state="failed"}} == 1) or vector(0)'), bounds=[(1, RED)]),
        number("Restarts", "In this time range.", "short",
               Query(f"sum(changes(process_start_time_seconds{{{JOB}}}[$__range]))"), bounds=[(1, YELLOW)]),
        row("What it costs"),
        lines("Processor", "Of one processor, in user space.", "percentunit",
              Query(f"rate(process_cpu_seconds_total{{{JOB}}}{RATE})", "{{instance}}")),
        lines("Kernel programs", "Run time; absent unless `sandbox.program_statistics` is on.", "percentunit",
              Query(f"sum by (instance) (rate(inferscope_program_run_seconds_total{{{NODE}}}{RATE})) or "
                    f"0 * sum by (instance) (inferscope_build_info{{{NODE}}})", "{{instance}}")),
        lines("Memory", "Resident.", "bytes", Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")),
        lines("Descriptors", "Open.", "short", Query(f"process_open_fds{{{JOB}}}", "{{instance}}")),
        row("What it sees and loses"),
        lines("Events", "From the kernel, by stage.", "short",
              Query(f"sum by (stage) (rate(inferscope_events_total{{{NODE}}}{RATE}))", "{{stage}}")),
        lines("Lost", "By stage and reason.", "short",
              Query(f"sum by (stage, reason) (rate({lost}{RATE}))", "{{stage}}: {{reason}}")),
        lines("Not understood", "Bytes on followed connections.", "short",
              Query(f"sum by (reason) (rate(inferscope_parse_failures_total{{{NODE}}}{RATE}))", "{{reason}}")),
        lines("Incomplete records", "Kept out of the histograms that they would falsify.", "short",
              Query(f"sum by (reason) (rate(inferscope_records_incomplete_total{{{NODE}}}{RATE}))", "{{reason}}"),
              Query(f"sum(rate(inferscope_records_without_series_total{{{NODE}}}{RATE}))", "no room for its series")),
        lines("Tables of the kernel", "Entries.", "short",
              Query(f"inferscope_table_entries{{{NODE}}}", "{{table}} of {{instance}}")),
        lines("Labels that did not fit", "Models beyond the limit.", "short",
              Query(f"rate(inferscope_model_label_overflow_total{{{NODE}}}{RATE})", "{{instance}}")),
        row("Is it well"),
        states("Signals", "1 in its state.", Query(
            f'max by (instance, signal) (inferscope_signal_state{{{NODE}, state="failed"}})', "{{signal}} of {{instance}}"),
            {"0": ("well", GREEN), "1": ("failed", RED)}),
        lines("Rounds and scrapes", "A second.", "short",
              Query(f"rate(inferscope_ticks_total{{{NODE}}}{RATE})", "rounds of {{instance}}"),
              Query(f"rate(inferscope_scrapes_total{{{NODE}}}{RATE})", "scrapes of {{instance}}")),
        lines("Time to encode a page", "The newest.", "s",
              Query(f"inferscope_scrape_duration_seconds{{{NODE}}}", "{{instance}}")),
        lines("Refused connections", "Beyond the limits of the endpoint.", "short",
              Query(f"rate(inferscope_http_connections_refused_total{{{NODE}}}{RATE})", "{{instance}}")),
        grid("Hooks", "Where each kernel program is.", ["instance", "program", "hook"],
             [Column("Hooked", "none", f"inferscope_hook_info{{{NODE}}}")]),
        grid("Rights", "What the agent may still do.", ["instance", "mode", "capabilities", "other_system_calls"],
             [Column("Sandbox", "none", f"inferscope_sandbox_info{{{NODE}}}")], height=5),
    )
