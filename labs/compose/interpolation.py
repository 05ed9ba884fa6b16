"""Variables in Compose files, as the Compose Specification's chapter "Interpolation" has them.

Read: $NAME, ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, ${NAME?message}, and $$ for
a dollar sign. Values come from an explicit mapping, never from this process's environment. What the
chapter has besides (defaults that hold variables, ${NAME:+word}) is refused, never taken literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from labs.yamlsource import KeyPath, Source

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)"
    r"|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?])(?P<word>[^{}$]*))?\}"
    r"|(?P<bad>))",
    re.ASCII,
)


def interpolated(source: Source, variables: Mapping[str, str], *, required: str | None = None) -> Source:
    """The file with every value filled in. Raises FileProblem at a variable that is required and missing.

    `required` stands in for such a variable, where the file is only looked at.
    """

    def fill(value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner, (*path, number)) for number, inner in enumerate(value)]
        return _filled(source, value, path, variables, required) if isinstance(value, str) else value

    return replace(source, data=fill(source.data, ()))


def defaults(source: Source) -> dict[str, str]:
    """Every variable a file names, with its default ('' without one)."""
    found: dict[str, str] = {}
    for text in _texts(source.data):
        for match in _VARIABLE.finditer(text):
            if name := match["name"] or match["plain"]:
                default = match["word"] if (match["operator"] or "").endswith("-") else ""
                found[name] = found.get(name) or default or ""
    return found


def _filled(source: Source, text: str, path: KeyPath, variables: Mapping[str, str], required: str | None) -> str:
    def one(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name = match["name"] or match["plain"]
        if not name:
            raise source.problem(
                f"The variable in {text!r} is not understood",
                path,
                hint="$$ stands for a dollar sign, and a default holds no variable of its own",
            )
        value, operator, word = variables.get(name), match["operator"] or "", match["word"] or ""
        absent = value is None or (operator.startswith(":") and not value)
        if absent and operator.endswith("?"):
            if required is not None:
                return required
            raise source.problem(f"The variable {name} has to be set", path, why=word)
        return word if absent else str(value)

    return _VARIABLE.sub(one, text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
