"""Alert summary: what fires, and what fired."""

from .parts import *

FIRING = f'ALERTS{{{NODE}, alertstate="firing"}}'


def board():
    def count(severity: str) -> Query:
        return Query(f'count(ALERTS{{{NODE}, alertstate="firing", severity="{severity}"}}) or vector(0)')

    # Some alerts are about no node.
    every = 'ALERTS{cluster=~"$cluster"}'
    return filled(
        empty("alerts", "Alert summary", "What fires now and what fired.", kinds="cn", span=("now-6h", "now")),
        number("Critical", "Somebody is woken.", "short", count("critical"), bounds=[(1, RED)]),
        number("Warning", "To be looked at today.", "short", count("warning"), bounds=[(1, YELLOW)]),
        number("Info", "Wakes nobody.", "short", count("info"), bounds=[]),
        number("Pending", "True, but not for long enough yet.", "short",
               Query(f'count(ALERTS{{{NODE}, alertstate="pending"}}) or vector(0)')),
        number("Servers down", "", "short", Query(f"count(vllm_workload_up{{{NODE}}} == 0) or vector(0)"),
               bounds=[(1, RED)]),
        number("Nodes without an agent", "That cannot be scraped.", "short",
               Query('count(up{job="inferscope"} == 0) or vector(0)'), bounds=[(1, RED)]),
        grid("Now", "Every alert that fires or is about to.",
             ["severity", "alertname", "alertstate", "instance", "workload", "model", "gpu", "objective"],
             [Column("Alerts", "none", every)], height=10),
        lines("Alerts by severity", "That fire.", "short",
              Query(f"count by (severity) ({FIRING})", "{{severity}}"), stacked=True),
        lines("Alerts by name", "That fire.", "short",
              Query(f"count by (alertname) ({FIRING})", "{{alertname}}"), stacked=True),
        bars("What fired in this time range", "Share of the time for which each alert fired somewhere.", "percentunit",
             Query(f'max by (alertname) (count_over_time(ALERTS{{{NODE}, alertstate="firing"}}[$__range])) / '
                   'scalar(max(count_over_time(up{job="inferscope"}[$__range])))', "{{alertname}}"), width=WIDE),
    )
