"""The page in a real browser: nothing complains, nothing is asked of anybody, everything is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labs.claims import ledger
from labs.commands.evidence import stored
from labs.commands.measure import judged
from labs.measure.compare import side_by_side
from labs.report.document import html
from labs.report.gather import gather

pytestmark = pytest.mark.live

RESULTS = Path(__file__).parents[2] / "docs" / "results"
CHARTS = {"containers", "timeline", "growth", "actions"}
# What the browser itself asks for when it starts is not the page's.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = stored(RESULTS, None)
    measured = dict.fromkeys(burden.topology for _, m in found.measurements for burden in m.burdens)
    comparison = side_by_side(tuple(measured), found.measurements, None, mixed=True)
    data = gather(judged(tuple(ledger()), found), comparison, found.measurements, found.repeats)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(data))
    return path


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "this test needs a browser: apt-get install chromium"
    argv = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *QUIET, *options]
    return subprocess.run([*argv, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)


def test_all_is_there_and_nothing_complains(page: Path) -> None:
    done = browse(page, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    for claim in ledger():
        assert f'id="{claim}"' in done.stdout
    assert set(re.findall(r'id="chart-([a-z]+)"', done.stdout)) == CHARTS
    assert done.stdout.count("<svg") == len(CHARTS)
    assert "<script" not in done.stdout
    for link in re.findall(r'href="#([^"]+)"', done.stdout):
        assert f'id="{link}"' in done.stdout, f"a figure leads to {link}, which is not there"


def test_no_request_leaves_the_file(page: Path, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    browse(page, f"--log-net-log={log}", "--dump-dom")
    events = json.loads(log.read_text())["events"]
    asked = {
        event["params"]["url"] for event in events if isinstance(event.get("params"), dict) and "url" in event["params"]
    }
    browsers_own = re.compile(r"https?://[a-z0-9.-]*(google|gvt1|googleapis)\.com/")
    assert not {url for url in asked if url.startswith("http") and not browsers_own.match(url)}
    text = page.read_text()
    assert not re.search(r"""(src|href)=["'](?!#|data:)|url\((?!["']?(data:|#))|@import""", text)


@pytest.mark.parametrize("width", [360, 1100])
def test_it_is_drawn_on_a_phone_and_on_a_desk(page: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / f"{width}.png"
    browse(page, f"--window-size={width},900", f"--screenshot={picture}")
    assert picture.stat().st_size > 10_000
