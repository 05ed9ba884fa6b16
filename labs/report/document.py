"""Results as Markdown and as one HTML page that needs nothing but itself."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labs.report.charts import charts
from labs.report.gather import ReportData

_MARKS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?"}


def markdown(data: ReportData) -> str:
    """The same as the page without charts and raw samples."""
    return _environment(html=False).get_template("report.md.j2").render(data=data, marks=_MARKS)


def html(data: ReportData) -> str:
    """One file: no script, no request, readable on a phone and in the dark."""
    svgs = {name: Markup(svg) for name, svg in charts(data).items()}  # noqa: S704 - our own drawing, texts escaped in it
    return _environment(html=True).get_template("report.html.j2").render(data=data, charts=svgs, marks=_MARKS)


def _environment(*, html: bool) -> Environment:
    made = Environment(
        loader=PackageLoader("labs.report"),
        autoescape=html,  # noqa: S701 - Markdown is read as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return made
