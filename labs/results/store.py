"""Results as JSON files: written beside and renamed, so a reader never sees half a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from labs.errors import FileProblem

_Result = TypeVar("_Result", bound=BaseModel)


def save(result: BaseModel, path: Path, indent: int | None = 2) -> Path:
    """Write `result` as JSON, its folders made, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(result.model_dump_json(indent=indent) + "\n")
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def load(kind: type[_Result], path: Path) -> _Result:
    """Read a stored result. Raises FileProblem when it is not one."""
    try:
        return kind.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise FileProblem("There is no such result", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise FileProblem("This is not a result of this version", where=f"{path}: {key}", why=first["msg"]) from error
