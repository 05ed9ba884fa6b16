"""The report as Markdown, word for word, and as a page that needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from labs.claims import Evidence, judge, ledger
from labs.measure.compare import side_by_side
from labs.report.document import html, markdown
from labs.report.gather import ReportData, gather
from labs.report.terminal import compared, verdicts
from labs.report.terminal import measurement as measured_text
from labs.results import (
    ClaimsResult,
    ImageFacts,
    Outcome,
    RepeatedScenario,
    RepeatResult,
)
from tests.unit.test_measure import ASKED, ENVIRONMENT, lab, measurement, several
from tests.unit.test_report import same

IMAGE = ImageFacts(
    reference="mesh-labs/x:1-abc", source="build", official="x/x:1", version="1", digest=None, id="sha256:1"
)
PLACE = ENVIRONMENT.model_copy(update={"images": {IMAGE.reference: IMAGE}})
CLAIMS = ("netbird-routes", "headscale-one-oidc")


def scenario(topology: str, answer: bool, actions: int) -> RepeatedScenario:
    return RepeatedScenario(
        scenario="ask-route-models",
        topology=topology,
        outcomes=(Outcome.PASSED,) * 2,
        took_s=(1.0, 2.0),
        phases=(),
        observations={"a-route-reaches-a-lan": (answer, answer)},
        actions=("api route POST /<script>",) * actions,
    )


@pytest.fixture
def data() -> ReportData:
    made = measurement(
        *several("a", 10),
        *several("b", 40),
        lab("b", 5, 400, invalid=("server was killed for want of memory",)),
        *(lab("a", 9 + peers, 10 + peers, peers=peers) for peers in (4, 8, 16)),
    ).model_copy(update={"environment": PLACE, "deviations": {"a": ("peers: X=1",), "b": ()}})
    repeats = RepeatResult(
        environment=PLACE,
        runs=2,
        jobs=1,
        wall_s=1,
        scenarios=(scenario("netbird", False, 3), scenario("a", True, 2), scenario("b", True, 4)),
    )
    evidence = Evidence({("ask-route-models", "netbird"): (repeats.scenarios[0], "s.json")})
    rows = ledger()
    judged = tuple(judge(name, rows[name], evidence, ("netbird",), ("ask-route-models",)) for name in CLAIMS)
    result = ClaimsResult(environment=PLACE, sources=("m.json", "s.json"), claims=judged)
    comparison = side_by_side(("a", "b"), [("m.json", made)], 2)
    return gather(result, comparison, [("m.json", made)], [("s.json", repeats)])


def test_markdown(data: ReportData) -> None:
    same("report.md", markdown(data).rstrip("\n"))


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]


def test_the_page_needs_nothing_but_itself(data: ReportData) -> None:
    text = html(data)
    page = Page(text)
    assert "script" not in page.tags
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"url\((?!#)|@import", text)
    assert page.tags.count("svg") == 4
    assert {"prefers-color-scheme: dark", "width=device-width"} <= {
        word for word in ("prefers-color-scheme: dark", "width=device-width") if word in text
    }


def test_every_figure_leads_to_its_samples(data: ReportData) -> None:
    page = Page(html(data))
    leading = [link for link in page.links if link.startswith("#raw-")]
    assert len(leading) == 2 * 2 * 2  # topologies, phases, parts
    assert {link[1:] for link in leading} <= set(page.ids)
    assert set(CLAIMS) <= set(page.ids)


def test_what_comes_from_results_is_escaped(data: ReportData) -> None:
    claims = data.claims.claims[0].model_copy(update={"says": "<script>alert(1)</script>"})
    result = data.claims.model_copy(update={"claims": (claims,)})
    changed = ReportData(**{**{field: getattr(data, field) for field in data.__slots__}, "claims": result})
    assert "<script>" not in html(changed)


def test_the_terminals_verdicts(data: ReportData) -> None:
    same("verdicts.txt", verdicts(data.claims))
    same("verdict.txt", verdicts(data.claims.model_copy(update={"claims": data.claims.claims[:1]})))


def test_the_terminals_tables(data: ReportData) -> None:
    assert data.comparison is not None
    same("compared.txt", compared(data.comparison))
    made = measurement(*several("a", 10), lab("b", 1, 9, invalid=("no sweep",)), asked=ASKED)
    same("measured.txt", measured_text(made))
