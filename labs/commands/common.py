"""What the commands share: the engine, what the user typed, and how output is written."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from labs.commands.usage import nearest
from labs.errors import UsageError

IMAGES_HELP = "Where images come from: auto, pull, build or load (default: $MESH_LABS_IMAGES, mesh-labs.yaml, auto)."

if TYPE_CHECKING:
    from invoke.context import Context

    from labs.engine.protocol import Engine


def open_engine(start: bool = True, out: Output | None = None, named: str | None = None) -> Engine:
    """The engine to use: the one `named`, or see docs/engines.md; where none answers, `start` lets the toolkit start
    its own. Which one it is, and why, goes to `out`.

    The caller closes it. Raises EngineUnavailable.
    """
    from labs.engine.docker_engine import DockerEngine  # noqa: PLC0415 - start-up time
    from labs.engine.select import choose  # noqa: PLC0415

    endpoint = choose(named, start, lambda text: print(text, file=sys.stderr))
    if out is not None:
        out.line(f"engine: {endpoint}")
    return DockerEngine(endpoint.url)


def use_images(source: str) -> None:
    """Take images from where `--images` says, in this process and in those that it starts; '' changes nothing.

    Raises UsageError when that is not auto, pull, build or load.
    """
    if source:
        from labs.images import Source  # noqa: PLC0415 - start-up time
        from labs.images.sourcing import SOURCE_VARIABLE  # noqa: PLC0415

        (os.environ[SOURCE_VARIABLE],) = words(source, list(Source), "image source")


def remainder(context: Context) -> list[str]:
    """The arguments after `--`, each as it was typed; empty when there are none."""
    return shlex.split(context.remainder)


def words(text: str, known: Iterable[str], noun: str) -> tuple[str, ...]:
    """The comma-separated words of `text`, in order and without repeats.

    Raises UsageError with the nearest known word when one is unknown, and when there is none.
    """
    valid = tuple(known)
    given = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not given:
        raise UsageError(f"No {noun} was named", hint=nearest("", valid))
    for word in given:
        if word not in valid:
            raise UsageError(f"There is no {noun} '{word}'", hint=nearest(word, valid))
    return given


def emit_json(document: object) -> None:
    """Write one JSON document to stdout; dataclasses and pydantic models become objects, paths and times text."""
    json.dump(document, sys.stdout, indent=2, default=_plain)
    sys.stdout.write("\n")


def _plain(value: object) -> object:
    from dataclasses import asdict, is_dataclass  # noqa: PLC0415 - start-up time

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


class Output:
    """Where a command's words go: stdout, or stderr when stdout belongs to JSON."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns; the last one is as wide as it needs to be."""
        cells = [tuple(headings), *(tuple(str(cell) for cell in row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something goes on: a spinner on a terminal, one plain line elsewhere."""
        if not self._stream.isatty():
            self.line(f"{text} ...")
            yield
            return
        from rich.console import Console  # noqa: PLC0415 - start-up time
        from rich.markup import escape  # noqa: PLC0415 - start-up time

        with Console(file=self._stream).status(escape(text)):
            yield


def console(json_output: bool = False) -> Output:
    """Where to write. With `json_output` everything goes to stderr, so that stdout holds the document alone."""
    return Output(sys.stderr if json_output else sys.stdout)
