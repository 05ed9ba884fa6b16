"""What the commands share: words, JSON, and output on and off a terminal."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from labs.commands.common import Output, console, emit_json, words
from labs.errors import UsageError

TOPOLOGIES = ("headscale", "headscale-oidc", "netbird")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("netbird", ("netbird",)),
        ("netbird,headscale", ("netbird", "headscale")),
        (" netbird , headscale,,netbird", ("netbird", "headscale")),
    ],
)
def test_words_are_separated_by_commas(text: str, expected: tuple[str, ...]) -> None:
    assert words(text, TOPOLOGIES, "topology") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("netbrid", "There is no topology 'netbrid'\n  try: did you mean netbird?"),
        ("netbird,x", "There is no topology 'x'\n  try: one of: headscale, headscale-oidc, netbird"),
        (" , ", "No topology was named\n  try: one of: headscale, headscale-oidc, netbird"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UsageError) as problem:
        words(text, TOPOLOGIES, "topology")
    assert str(problem.value) == message


@dataclass(frozen=True)
class Lab:
    name: str
    folder: Path


class Image(BaseModel):
    version: str


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"labs": [Lab("a", Path("/x"))], "image": Image(version="1"), "tags": {"b", "a"}})
    assert json.loads(capsys.readouterr().out) == {
        "labs": [{"name": "a", "folder": "/x"}],
        "image": {"version": "1"},
        "tags": ["a", "b"],
    }


def test_with_json_everything_else_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console(json_output=True).line("busy")
    console().line("done")
    assert capsys.readouterr() == ("done\n", "busy\n")


def test_a_table_is_aligned() -> None:
    stream = io.StringIO()
    Output(stream).table(("NAME", "PEERS"), [("headscale", 2), ("n", 10)])
    assert stream.getvalue() == "NAME       PEERS\nheadscale  2\nn          10\n"


def test_work_is_one_plain_line_off_a_terminal() -> None:
    stream = io.StringIO()
    with Output(stream).working("Starting [netbird]"):
        stream.write("inside\n")
    assert stream.getvalue() == "Starting [netbird] ...\ninside\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_work_is_a_spinner_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Output(stream).working("Starting [netbird]"):
        pass
    assert "Starting [netbird]" in stream.getvalue()
    assert "..." not in stream.getvalue()
