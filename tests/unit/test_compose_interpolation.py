"""The Compose Specification's interpolation, as a table."""

from __future__ import annotations

import pytest

from labs.compose.interpolation import defaults, interpolated
from labs.errors import FileProblem
from labs.yamlsource import parse

SET, EMPTY, UNSET = {"A": "a"}, {"A": ""}, dict[str, str]()


@pytest.mark.parametrize(
    ("text", "when_set", "when_empty", "when_unset"),
    [
        ("$A", "a", "", ""),
        ("${A}", "a", "", ""),
        ("${A:-d}", "a", "d", "d"),
        ("${A-d}", "a", "", "d"),
        ("${A:-}", "a", "", ""),
        ("${A:?no}", "a", None, None),
        ("${A?no}", "a", "", None),
        ("$$A", "$A", "$A", "$A"),
        ("$${A}", "${A}", "${A}", "${A}"),
        ("$$$A", "$a", "$", "$"),
        ("x${A}y$A.z", "xaya.z", "xy.z", "xy.z"),
        ("${A:-http://h:80/p?q}", "a", "http://h:80/p?q", "http://h:80/p?q"),
        ("${LAB_BIND:-127.0.0.1}:${A:-}:80", "127.0.0.1:a:80", "127.0.0.1::80", "127.0.0.1::80"),
        ("no variable", "no variable", "no variable", "no variable"),
    ],
)
def test_table(text: str, when_set: str | None, when_empty: str | None, when_unset: str | None) -> None:
    source = parse(f"a: ['{text}']", "f")
    for variables, wanted in ((SET, when_set), (EMPTY, when_empty), (UNSET, when_unset)):
        if wanted is not None:
            assert interpolated(source, variables).data == {"a": [wanted]}
            continue
        with pytest.raises(FileProblem, match="The variable A has to be set") as refused:
            interpolated(source, variables)
        assert (refused.value.where, refused.value.why) == ("f:1:5 a[0]", "no")
        assert interpolated(source, variables, required="1").data == {"a": ["1"]}


@pytest.mark.parametrize("text", ["$", "$5", "${", "${A", "${}", "${1A}", "${A:+b}", "${A:-${B}}", "${A:-$B}", "${ä}"])
def test_what_is_not_understood_is_never_taken_literally(text: str) -> None:
    with pytest.raises(FileProblem, match="is not understood"):
        interpolated(parse(f"a: '{text}'", "f"), {"A": "a", "B": "b"})


def test_keys_and_empty_values_stay_as_they_are() -> None:
    assert interpolated(parse("$A:\nb: $A", "f"), SET).data == {"$A": None, "b": "a"}


def test_values_are_not_filled_in_twice() -> None:
    assert interpolated(parse("a: $A", "f"), {"A": "$B${C}$$"}).data == {"a": "$B${C}$$"}


def test_the_callers_environment_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "from outside")
    assert interpolated(parse("a: ${A:-d}", "f"), {}).data == {"a": "d"}


def test_every_variable_is_named_with_its_default() -> None:
    text = "a: ['$A ${B:-b} ${C-c}', '${D:?no}', '$$E', '${B}']\nx: {y: '${F:-}'}"
    assert defaults(parse(text, "f")) == {"A": "", "B": "b", "C": "c", "D": "", "F": ""}
