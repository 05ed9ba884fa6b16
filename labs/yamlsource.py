"""YAML that remembers where everything stood, so that every error can say file, line and column.

Scalars stay the words that were written (`.10` is no float here, `on` no boolean); the models that
read them decide what they mean. Anchors, merge keys and several documents are refused by name:
files that are read aloud do not need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from labs.errors import FileProblem
from labs.words import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    _Model = TypeVar("_Model", bound=BaseModel)

KeyPath = tuple[str | int, ...]
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file: `data` in plain Python (dict, list, str, None), and where each key path stood."""

    name: str
    data: Any
    positions: Mapping[KeyPath, tuple[int, int]] = field(repr=False)

    def where(self, path: KeyPath = ()) -> str:
        """FILE:LINE:COLUMN, and the key path; the nearest parent's position when the key itself is not there."""
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.positions), ())
        line, column = self.positions.get(known, (1, 1))
        place = f"{self.name}:{line}:{column}"
        return f"{place} {dotted(path)}" if path else place

    def problem(self, what: str, path: KeyPath = (), *, why: str = "", hint: str = "") -> FileProblem:
        return FileProblem(what, where=self.where(path), why=why, hint=hint)


def dotted(path: KeyPath) -> str:
    """steps[0].expect.from"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: Path) -> Source:
    """Read one file. Raises FileProblem when it is missing, no text, or no YAML of the kind above."""
    try:
        return parse(path.read_text(), path.name)
    except FileNotFoundError as error:
        raise FileProblem("There is no such file", where=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem("The file cannot be read", where=str(path), why=str(error)) from error


def parse(text: str, name: str) -> Source:
    """The same, from a text; `name` is what errors call it."""
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise FileProblem("This is not YAML", where=place, why=error.problem or str(error)) from error
    except yaml.YAMLError as error:
        raise FileProblem("This is not YAML", where=name, why=str(error)) from error
    if len(documents) != 1 or documents[0] is None:
        raise FileProblem(f"One YAML document is wanted, and the file has {len(documents)}", where=f"{name}:1:1")
    reader = _Reader(name)
    return Source(name, reader.value(documents[0], ()), reader.positions)


class _Reader:
    """Turns nodes into plain values and notes where each stood."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[int] = set()
        self.positions: dict[KeyPath, tuple[int, int]] = {}

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.positions.setdefault(path, _place(node))
        if id(node) in self._seen:
            raise self._refusal(node, path, "Anchors and aliases are not read", "write the value out where it is used")
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == _NULL else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        return dict(self._pairs(node, path))

    def _pairs(self, node: yaml.Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag == _MERGE:
                raise self._refusal(key, path, "Merge keys are not read", "write the keys out where they are used")
            if not isinstance(key, yaml.ScalarNode):
                raise self._refusal(key, path, "A key has to be one word", "")
            inner = (*path, key.value)
            if key.value in seen:
                raise self._refusal(key, inner, f"The key {key.value} is there twice", "keep one of them")
            seen.add(key.value)
            self.positions[inner] = _place(key)
            yield key.value, self.value(value, inner)

    def _refusal(self, node: yaml.Node, path: KeyPath, what: str, hint: str) -> FileProblem:
        line, column = _place(node)
        return FileProblem(what, where=f"{self._name}:{line}:{column} {dotted(path)}".rstrip(), hint=hint)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def validated(source: Source, model: type[_Model]) -> _Model:
    """The file's content as `model`. Raises one FileProblem for all that is wrong, each with its place."""
    from pydantic import ValidationError  # noqa: PLC0415 - commands that read no file must not pay for it

    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        raise _problem(source, error, model) from error


def _problem(source: Source, error: ValidationError, model: type[BaseModel]) -> FileProblem:
    lines = []
    for entry in error.errors(include_url=False):
        path = tuple(part for part in entry["loc"] if isinstance(part, int) or not _is_branch(part))
        lines.append((source.where(path), _reason(entry), _hint(entry["type"], path, model)))
    where, why, hint = lines[0]
    more = "".join(f"\n       {place}: {reason}" for place, reason, _ in lines[1:])
    return FileProblem("The file says something that is not understood", where=where, why=why + more, hint=hint)


def _is_branch(part: str) -> bool:
    """pydantic names the branch of a union in the path; no key of ours looks like that."""
    return bool(re.search(r"[\[\]A-Z(]", part)) or part in ("str", "int", "bool", "list", "dict")


def _reason(entry: Any) -> str:
    match entry["type"]:
        case "missing":
            return f"the key {entry['loc'][-1]} is missing"
        case "extra_forbidden":
            return f"there is no key {entry['loc'][-1]} here"
        case "value_error":
            return str(entry["ctx"]["error"])
        case _:
            text: str = entry["msg"]
            return f"{text[0].lower()}{text[1:]}, not {entry['input']!r}"


def _hint(kind: str, path: KeyPath, model: type[BaseModel]) -> str:
    if kind != "extra_forbidden":
        return ""
    keys = _keys_at(model, path[:-1])
    return nearest(str(path[-1]), keys) if keys else ""


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys a model takes at a path, found through its JSON Schema."""
    schema = model.model_json_schema(by_alias=True)
    places = [schema]
    for part in path:
        places = [inner for place in places for inner in _inside(_resolved(place, schema), part, schema)]
    return sorted({key for place in places for key in _resolved(place, schema).get("properties", ())})


def _inside(place: Mapping[str, Any], part: str | int, schema: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for branch in [place, *(_resolved(b, schema) for b in place.get("anyOf", ()))]:
        if isinstance(part, int):
            found += [branch["items"]] if isinstance(branch.get("items"), dict) else []
        elif part in branch.get("properties", {}):
            found.append(branch["properties"][part])
        elif isinstance(branch.get("additionalProperties"), dict):
            found.append(branch["additionalProperties"])
        elif "patternProperties" in branch:
            found += branch["patternProperties"].values()
    return [option for place in found for option in (place.get("anyOf") or [place])]


def _resolved(place: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = place.get("$ref")
    return schema["$defs"][reference.rsplit("/", 1)[1]] if reference else place
