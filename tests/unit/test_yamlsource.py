"""YAML with positions, and validation errors that say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from labs.errors import FileProblem
from labs.yamlsource import dotted, load, parse, validated

TEXT = """\
title: a
peers:
  laptop: {user: alice}
steps:
  - expect: .10
  - on
"""


class Peer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: str
    seen_as: str | None = Field(None, alias="seen-as")


class Doc(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str
    peers: dict[str, Peer] = {}
    number: int | list[int] = 0


def refused(text: str, **known: str) -> FileProblem:
    with pytest.raises(FileProblem) as caught:
        validated(parse(text, "f.yaml"), Doc, known)
    return caught.value


def test_scalars_stay_the_words_that_were_written() -> None:
    data = parse(TEXT, "f.yaml").data
    assert data == {"title": "a", "peers": {"laptop": {"user": "alice"}}, "steps": [{"expect": ".10"}, "on"]}
    assert parse("a:\nb: ''\nc: 0644\nd: ~", "f").data == {"a": None, "b": "", "c": "0644", "d": None}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ((), "f.yaml:1:1"),
        (("title",), "f.yaml:1:1 title"),
        (("peers", "laptop", "user"), "f.yaml:3:12 peers.laptop.user"),
        (("steps", 0, "expect"), "f.yaml:5:5 steps[0].expect"),
        (("steps", 1), "f.yaml:6:5 steps[1]"),
        (("peers", "absent", "user"), "f.yaml:2:1 peers.absent.user"),
    ],
    ids=dotted,
)
def test_every_key_path_has_a_place(path: Any, where: str) -> None:
    assert parse(TEXT, "f.yaml").where(path) == where


def test_a_problem_carries_all_its_parts() -> None:
    problem = parse(TEXT, "f.yaml").problem("no", ("title",), why="because", hint="try")
    assert str(problem) == "no\n  where: f.yaml:1:1 title\n  why: because\n  try: try"


def test_a_file_is_called_by_its_name_or_as_asked(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("größe: 1", encoding="utf-8")
    assert load(file).data == {"größe": "1"}
    assert load(file).where() == "a.yaml:1:1"
    assert load(file, "t/a.yaml").where() == "t/a.yaml:1:1"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    for name, what in (("absent.yaml", "no such file"), ("latin.yaml", "cannot be read"), (".", "cannot be read")):
        with pytest.raises(FileProblem, match=what):
            load(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("a: 1\na: 2", "The key a is there twice", "f:2:1 a"),
        ("a: {b: 1, b: 2}", "The key b is there twice", "f:1:11 a.b"),
        ("a:\n\t- b", "This is not YAML", "f:2:1"),
        ("a: [", "This is not YAML", "f:1:5"),
        ("a: \x01", "This is not YAML", "f"),
        ("a: 1\n---\nb: 2", "One YAML document is wanted, and the file has 2", "f:3:1"),
        ("", "One YAML document is wanted, and the file has 0", "f:1:1"),
        ("a: &x 1\nb: *x", "Anchors and aliases are not read", "f:2:1 b"),
        ("a: &x [*x]", "Anchors and aliases are not read", "f:1:4 a[0]"),
        ("a:\n  <<: {b: 1}", "Merge keys are not read", "f:2:3 a"),
        ("a: !reset 1", "The tag !reset is not read", "f:1:4 a"),
        ("a: !!python/name:os.system x", "The tag tag:yaml.org,2002:python/name:os.system is not read", "f:1:4 a"),
        ("? [a]\n: 1", "A key has to be one word", "f:1:3"),
    ],
)
def test_what_is_not_read_is_refused_by_place(text: str, what: str, where: str) -> None:
    with pytest.raises(FileProblem) as caught:
        parse(text, "f")
    assert (caught.value.what, caught.value.where) == (what, where)


def test_an_anchor_that_nothing_uses_does_no_harm() -> None:
    assert parse("a: &x 1", "f").data == {"a": "1"}


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    problem = refused("pers: {}\npeers:\n  Lap_Top[1]: {usr: x, seen-as: [y]}\n")
    assert problem.where == "f.yaml:1:1 pers"
    assert problem.why.splitlines() == [
        "there is no key pers here",
        "       f.yaml:1:1 title: the key title is missing",
        "       f.yaml:3:3 peers.Lap_Top[1].user: the key user is missing",
        "       f.yaml:3:16 peers.Lap_Top[1].usr: there is no key usr here (did you mean user?)",
        "       f.yaml:3:24 peers.Lap_Top[1].seen-as: input should be a valid string, not ['y']",
    ]
    assert problem.hint == "did you mean peers?"


def test_the_branches_of_a_union_are_no_keys() -> None:
    problem = refused("title: a\nnumber: [1, x]\n")
    assert problem.where == "f.yaml:2:1 number"
    assert "f.yaml:2:13 number[1]" in problem.why


def test_a_key_that_the_format_knows_gets_its_own_hint() -> None:
    problem = refused("title: a\nbuild: .\n", build="name an image")
    assert (problem.why, problem.hint) == ("the toolkit does not read build", "name an image")


def test_what_was_written_is_quoted_briefly() -> None:
    assert refused("title: [" + "long, " * 50 + "]").why.endswith("...")
    assert refused("title:").why == "input should be a valid string, not nothing"
