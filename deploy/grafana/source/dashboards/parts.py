"""What the dashboards share: variables, selectors, and one function for each kind of panel."""

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heat_models
from grafana_foundation_sdk.models import prometheus as query_models

# Matchers of the variables: of a node, of a server there, of a model there, and of what has a model but no server.
NODE = 'cluster=~"$cluster", instance=~"$node"'
SERVER = f'{NODE}, workload=~"$workload"'
MODEL = f'{SERVER}, model=~"$model"'
SCORED = f'{NODE}, model=~"$model"'

RATE = "[$__rate_interval]"

HEIGHT = 8
WIDE = 24
HALF = 12
THIRD = 8
SMALL = 4

GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True)
class Query:
    """An expression, and how its series are called."""

    expr: str
    legend: str = "__auto"


def source() -> models.DataSourceRef:
    return models.DataSourceRef(type_val="prometheus", uid="$datasource")


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """One that is everything unless somebody chooses, a label that is absent included."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(source())
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def variables(kinds: str) -> list[Any]:
    """Those of the letters: c(luster), n(ode), w(orkload), m(odel)."""
    known = {
        "c": ("cluster", "Cluster", "label_values(inferscope_build_info, cluster)"),
        "n": ("node", "Node", 'label_values(inferscope_build_info{cluster=~"$cluster"}, instance)'),
        "w": ("workload", "Workload", f"label_values(inferscope_workload_info{{{NODE}}}, workload)"),
        "m": ("model", "Model", f"label_values({{__name__=~\"vllm_requests_total|model_drift_score\", {NODE}}}, model)"),
    }
    return [variable(*known[kind]) for kind in kinds]


def empty(
    uid: str,
    title: str,
    description: str,
    kinds: str = "cnwm",
    span: tuple[str, str] = ("now-1h", "now"),
    refresh: str = "30s",
) -> dashboard.Dashboard:
    """An empty dashboard with its variables and the way to the others."""
    made = (
        dashboard.Dashboard(title)
        .uid(f"inferscope-{uid}")
        .description(description)
        .tags(["inferscope"])
        .time(*span)
        .timezone("browser")
        .refresh(refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("inferscope")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["inferscope"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for one in variables(kinds):
        made.with_variable(one)
    return made


def row(title: str) -> dashboard.Row:
    return dashboard.Row(title)


def target(query: Query, letter: str, instant: bool = False, format_val: Any = None) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    made = made.instant().editor_mode(query_models.QueryEditorMode.CODE) if instant else made.range()
    if format_val is not None:
        made.format(format_val)
    return made


def letters(queries: tuple[Query, ...]) -> list[tuple[str, Query]]:
    return [(chr(ord("A") + place), query) for place, query in enumerate(queries)]


def steps(bounds: list[tuple[float, str]], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Colours from each bound on."""
    made = [models.Threshold(value=None, color=base)]
    made += [models.Threshold(value=bound, color=colour) for bound, colour in bounds]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = HALF,
    stacked: bool = False,
    bounds: list[tuple[float, str]] | None = None,
    least: float | None = 0,
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time; `bounds` are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .unit(unit)
        .span(width)
        .height(HEIGHT)
        .line_width(1)
        .fill_opacity(40 if stacked else 8)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.TABLE)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
        )
    )
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if bounds is not None:
        panel.thresholds(steps(bounds))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    for letter, query in letters(queries):
        panel.with_target(target(query, letter))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    width: int = SMALL,
    bounds: list[tuple[float, str]] | None = None,
    base: str = GREEN,
    decimals: int | None = None,
    over: bool = True,
) -> stat.Panel:
    """The newest value, with how it came to be behind it; `over=False` for one value of the whole time range."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(options.BigValueGraphMode.AREA if over else options.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(steps(bounds or [], base))
        .with_target(target(query, "A", instant=not over))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def heatmap_of(title: str, description: str, unit: str, scheme: str, width: int) -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(heat_models.HeatmapColorMode.SCHEME).scheme(scheme).steps(64)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .span(width)
        .height(HEIGHT)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(colours.reverse(True) if scheme == "RdYlGn" else colours)
    )


def heat(title: str, description: str, unit: str, expr: str, width: int = HALF) -> heatmap.Panel:
    """Buckets of a classic histogram over time: `expr` sums their rates by `le`."""
    query = target(Query(expr, "{{le}}"), "A", format_val=query_models.PromQueryFormat.HEATMAP)
    return heatmap_of(title, description, unit, "Oranges", width).calculate(False).with_target(query)


def heat_by(title: str, description: str, unit: str, query: Query, width: int = HALF) -> heatmap.Panel:
    """How many series have which value over time."""
    return heatmap_of(title, description, unit, "RdYlGn", width).calculate(True).with_target(target(query, "A"))


def states(title: str, description: str, query: Query, names: dict[str, tuple[str, str]], width: int = HALF) -> Any:
    """Values that each mean something, by their text and colour."""
    mapped = models.ValueMap(
        options={
            value: models.ValueMappingResult(text=said, color=colour, index=place)
            for place, (value, (said, colour)) in enumerate(names.items())
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .span(width)
        .height(HEIGHT)
        .mappings([mapped])
        .show_value(options.VisibilityMode.NEVER)
        .with_target(target(query, "A"))
    )


def bars(title: str, description: str, unit: str, query: Query, width: int = HALF) -> bargauge.Panel:
    """One bar a series, of the whole time range."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .unit(unit)
        .span(width)
        .height(HEIGHT)
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(target(query, "A", instant=True))
    )


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, its unit and its expression, whose labels are the rows."""

    head: str
    unit: str
    expr: str


def grid(
    title: str, description: str, labels: list[str], columns: list[Column], width: int = WIDE, height: int = HEIGHT
) -> table.Panel:
    """A row for each set of labels, a column for each expression."""
    hidden = ["Time", "__name__", "job"]
    order = {label: place for place, label in enumerate(labels)}
    names = {}
    for letter, column in letters(tuple(columns)):  # type: ignore[arg-type]
        names["Value" if len(columns) == 1 else f"Value #{letter}"] = column.head
        order["Value" if len(columns) == 1 else f"Value #{letter}"] = len(order)
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(source())
        .span(width)
        .height(height)
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {name: True for name in hidden},
                    "indexByName": order,
                    "renameByName": names,
                },
            )
        )
    )
    for letter, column in letters(tuple(columns)):  # type: ignore[arg-type]
        query = target(Query(column.expr), letter, instant=True, format_val=query_models.PromQueryFormat.TABLE)
        panel.with_target(query)
        panel.override_by_name(column.head, [models.DynamicConfigValue(id_val="unit", value=column.unit)])
    return panel


def spent(window: str) -> str:
    """What the GPUs' time of a window cost, idle time included."""
    return f"(sum(increase(cost_total{{{MODEL}}}[{window}])) + sum(increase(cost_idle_total{{{NODE}}}[{window}])))"


def filled(made: dashboard.Dashboard, *panels: Any) -> dashboard.Dashboard:
    """With rows and panels from top to bottom, filled from the left."""
    for panel in panels:
        if isinstance(panel, dashboard.Row):
            made.with_row(panel)
        else:
            made.with_panel(panel)
    return made
