"""Charts as SVG inside the page: no script, no request, colours from the page's own style sheet."""

from __future__ import annotations

import re
import sys
from typing import Any

import pygal
from pygal.style import Style

from labs.report.gather import MIB, ReportData
from labs.results import Part

# The library hooks into all imports to find its own maps, by a way that Python warns of and 3.12 no longer knows.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_COLOURS = tuple(f"var(--series-{number})" for number in range(1, 13))
_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--ink)",
    foreground_strong="var(--ink)",
    foreground_subtle="var(--line)",
    guide_stroke_color="var(--line)",
    major_guide_stroke_color="var(--line)",
    colors=_COLOURS,
    font_family="inherit",
    opacity=".85",
    opacity_hover="1",
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=14,
    title_font_size=16,
    stroke_opacity=".9",
)


def charts(data: ReportData) -> dict[str, str]:
    """SVG by name; a chart without data is left out."""
    found = {
        "containers": _containers(data),
        "timeline": _timeline(data),
        "growth": _growth(data),
        "actions": _actions(data),
    }
    return {name: chart for name, chart in found.items() if chart}


def _containers(data: ReportData) -> str:
    bars = list(reversed(data.by_container))  # drawn from below
    names = list(dict.fromkeys(name for values in data.by_container.values() for name in values))
    if not bars:
        return ""
    chart = _chart(
        pygal.HorizontalStackedBar,
        "Anonymous + shared memory of the services, MiB, median of labs",
        140 + 26 * len(bars),
    )
    chart.x_labels = bars
    for name in names:
        chart.add(name, [data.by_container[bar].get(name) for bar in bars])
    return _svg(chart)


def _timeline(data: ReportData) -> str:
    """One lab of each stack from nothing to the end; gaps are what was not sampled."""
    if not data.timelines:
        return ""
    chart = _chart(pygal.XY, "One lab of each stack: anonymous + shared memory of the services, MiB, by second", 380)
    chart.x_title = "seconds since nothing was there"
    for topology, run in data.timelines.items():
        points: list[tuple[float, float] | None] = []
        for window in run.windows:
            values = zip(window.at_s, window.sums(Part.FOOTPRINT), strict=True)
            points += [(round(window.begin_s + at_s, 1), round(v / MIB, 2)) for at_s, v in values if v is not None]
            points.append(None)
        chart.add(topology, points, dots_size=1.5, allow_interruptions=True)
    return _svg(chart)


def _growth(data: ReportData) -> str:
    chosen = [growth for growth in data.growth if growth.what.startswith("control plane, anonymous")]
    if not chosen:
        return ""
    chart = _chart(pygal.XY, "Anonymous + shared memory of the control plane, MiB, by number of peers", 340)
    chart.x_title = "peers"
    for growth in chosen:
        chart.add(growth.topology, sorted(growth.points), dots_size=4, stroke=False)
    return _svg(chart)


def _actions(data: ReportData) -> str:
    if not data.actions:
        return ""
    names = list(reversed(data.actions))
    topologies = list(dict.fromkeys(topology for by in data.actions.values() for topology in by))
    chart = _chart(
        pygal.HorizontalBar,
        "What an operator had to do for the same outcome: actions by scenario",
        120 + 34 * len(names),
    )
    chart.x_labels = names
    for topology in topologies:
        chart.add(topology, [by.total if (by := data.actions[name].get(topology)) else None for name in names])
    return _svg(chart)


def _chart(kind: type[Any], title: str, height: int) -> Any:
    return kind(
        title=title,
        width=900,
        height=height,
        style=_STYLE,
        js=(),
        disable_xml_declaration=True,
        legend_at_bottom=True,
        show_minor_y_labels=True,
        truncate_legend=40,
        truncate_label=40,
        print_values=False,
        range=None,
        include_x_axis=True,
    )


def _svg(chart: Any) -> str:
    """Without the library's own script and comments: the page has none."""
    text: str = chart.render(is_unicode=True)
    return re.sub(r"<script.*?</script>|<!--.*?-->", "", text, flags=re.DOTALL)
