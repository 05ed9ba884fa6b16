"""YAML that remembers where everything stood, so that every error can say file, line and column.

Scalars stay the words that were written (`.10` is no float here, `on` no boolean); the models that
read them decide what they mean. Anchors, merge keys, tags and several documents are refused by name:
files that are read aloud do not need them.

    source = load(path)                    # or parse(text, name)
    model = validated(source, SomeModel)   # pydantic; one FileProblem lists all that is wrong
    raise source.problem("what is wrong", ("steps", 0, "from"), hint="what to try")
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
_CORE = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge", "seq", "map")
)
_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file: `data` in plain Python (dict, list, str, None), and where each key path stood."""

    name: str
    data: Any
    positions: Mapping[KeyPath, tuple[int, int]] = field(repr=False)

    def where(self, path: KeyPath = ()) -> str:
        """FILE:LINE:COLUMN, and the key path; the nearest parent's position when the key itself is not there."""
        line, column = self.position(path)
        place = f"{self.name}:{line}:{column}"
        return f"{place} {dotted(path)}" if path else place

    def position(self, path: KeyPath) -> tuple[int, int]:
        """Line and column, counted from 1."""
        known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in self.positions), ())
        return self.positions.get(known, (1, 1))

    def problem(self, what: str, path: KeyPath = (), *, why: str = "", hint: str = "") -> FileProblem:
        return FileProblem(what, where=self.where(path), why=why, hint=hint)


def dotted(path: KeyPath) -> str:
    """steps[0].expect.from"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: Path, name: str = "") -> Source:
    """Read one file. Raises FileProblem when it is missing, no text, or no YAML of the kind above.

    `name` is what errors call the file, where its own name would not tell it from others.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), name or path.name)
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
        why = error.problem or str(error)
        hint = "indent with spaces: YAML takes no tab there" if "'\\t'" in why else ""
        raise FileProblem("This is not YAML", where=place, why=why, hint=hint) from error
    except yaml.YAMLError as error:
        raise FileProblem("This is not YAML", where=name, why=str(error)) from error
    if len(documents) != 1:
        line, column = _place(documents[1]) if documents else (1, 1)
        raise FileProblem(
            f"One YAML document is wanted, and the file has {len(documents)}",
            where=f"{name}:{line}:{column}",
            hint="a file for each" if documents else "",
        )
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
        if node.tag not in _CORE:
            raise self._refusal(node, path, f"The tag {node.tag} is not read", "write the plain value")
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
        # An alias is its anchor's node, so the key it was used for says more about where.
        line, column = self.positions[path] if id(node) in self._seen else _place(node)
        return FileProblem(what, where=f"{self._name}:{line}:{column} {dotted(path)}".rstrip(), hint=hint)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def validated(source: Source, model: type[_Model], unread: Mapping[str, str] | None = None) -> _Model:
    """The file's content as `model`. Raises one FileProblem for all that is wrong, each with its place.

    `unread` holds keys the format knows and we do not read, and what to write instead of each.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - commands that read no file must not pay for it

    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        raise file_problem(source, error, model, unread) from error


def file_problem(
    source: Source, error: ValidationError, model: type[BaseModel], unread: Mapping[str, str] | None = None
) -> FileProblem:
    """All that pydantic objects to, in the order of the file: place, key path, reason, and the nearest valid key."""
    found = []
    entries = [(_path(source, entry), entry) for entry in error.errors(include_url=False)]
    for path, entry in entries:
        if entry["type"] == "too_short" and any(other[: len(path)] == path for other, _ in entries if other != path):
            continue  # pydantic counts only the good ones: what is wrong with the others is said already
        found.append((source.position(path), source.where(path), *_explained(entry, path, model, unread or {})))
    (_, where, why, hint), *others = sorted(dict.fromkeys(found))
    lines = (f"\n       {place}: {reason}" + (f" ({tip})" if tip else "") for _, place, reason, tip in others)
    return FileProblem(
        "The file says something that is not understood", where=where, why=why + "".join(lines), hint=hint
    )


def _path(source: Source, entry: Any) -> KeyPath:
    """The key path in the file: pydantic's own names, as of a union's branches, are not there and fall away."""
    path: KeyPath = ()
    last = len(entry["loc"]) - 1
    for number, part in enumerate(entry["loc"]):
        if (*path, part) in source.positions or (entry["type"] == "missing" and number == last):
            path = (*path, part)
    return path


def _explained(entry: Any, path: KeyPath, model: type[BaseModel], unread: Mapping[str, str]) -> tuple[str, str]:
    """Reason and hint."""
    if entry["type"] != "extra_forbidden":
        return _reason(entry), ""
    key = str(entry["loc"][-1])
    if key in unread:
        return f"the toolkit does not read {key}", unread[key]
    return f"there is no key {key} here", nearest(key, _keys_at(model, path[:-1]))


def _reason(entry: Any) -> str:
    match entry["type"]:
        case "missing":
            return f"the key {entry['loc'][-1]} is missing"
        case "value_error":
            return str(entry["ctx"]["error"])
        case "enum" | "literal_error":
            words = re.sub(r"<[\w.]+: ('[^']*')>", r"\1", entry["ctx"]["expected"])  # a StrEnum's repr, to its word
            return f"input should be {words}, not {_quoted(entry['input'])}"
        case "bool_parsing":
            return f"true or false is wanted, not {_quoted(entry['input'])}"
        case _:
            text: str = entry["msg"]
            return f"{text[0].lower()}{text[1:]}, not {_quoted(entry['input'])}"


def _quoted(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


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
