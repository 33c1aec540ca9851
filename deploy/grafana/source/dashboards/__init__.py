"""Every dashboard, in the order of the folder."""

from . import agent, alerts, cost, drift, fleet, gpus, objectives, serving, slow, views

DASHBOARDS = [
    serving.board(),
    slow.board(),
    drift.board(),
    gpus.board(),
    objectives.board(),
    alerts.board(),
    fleet.board(),
    cost.board(),
    agent.board(),
    *views.boards(),
]
