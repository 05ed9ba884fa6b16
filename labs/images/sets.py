"""A set: all images of some topologies in one file, for a machine without a network.

The file is one tar: first what the set is (`set.json`), then what the engine writes for `docker save`, byte for byte.
So `docker load` takes it as well, where this toolkit is not.
"""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from labs import __version__
from labs.engine import Engine
from labs.errors import FileProblem, ImageProblem, NoSpace
from labs.images.catalogue import catalogue
from labs.images.events import ImageEvent, OnImage
from labs.images.provenance import image_facts, remember_digests
from labs.results import ImageFacts

_FORMAT = 1
_NAME = "set.json"
_LIST = "manifest.json"  # the engine's own list of what is in its archive
_CHUNK_BYTES = 1 << 20
_MIB = 1 << 20


class ImageSet(BaseModel):
    """What a set holds. `images` are by recipe name; `architecture` is the processor they run on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = _FORMAT
    toolkit: str
    created: str
    architecture: str
    topologies: tuple[str, ...]
    images: Mapping[str, ImageFacts]

    @property
    def strangers(self) -> tuple[str, ...]:
        """The images that labs of this version would not run: other recipes, or other official versions."""
        here = catalogue()
        return tuple(
            name
            for name, facts in self.images.items()
            if name not in here or facts.reference not in (here[name].reference, here[name].official)
        )


def write(
    engine: Engine, references: Mapping[str, str], topologies: Iterable[str], file: Path, on_event: OnImage
) -> ImageSet:
    """Save images (references by recipe name) that the engine has. `file` gets its name only when it is whole.

    Raises NotFound, NoSpace, FileProblem.
    """
    made = ImageSet(
        toolkit=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=engine.info().architecture,
        topologies=tuple(topologies),
        images={name: image_facts(engine.image(reference)) for name, reference in references.items()},
    )
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as target:
            target.write(_head(made))
            for piece in _told(engine.save_images(tuple(references.values())), "saving", on_event):
                target.write(piece)
        beside.rename(file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NoSpace(
                "No space is left for the set", where=str(file.parent), hint="name a file elsewhere"
            ) from error
        raise FileProblem("The set cannot be written", where=str(file), why=error.strerror or str(error)) from error
    finally:
        beside.unlink(missing_ok=True)
    return made


def read(engine: Engine, file: Path, on_event: OnImage) -> ImageSet:
    """Put a set's images into the engine. The file is looked through before the engine gets any of it.

    Raises FileProblem when it is no whole set, ImageProblem when it is one for another processor, NoSpace.
    """
    try:
        with file.open("rb") as archive:
            found, offset = _checked(archive, file)
            if (here := engine.info().architecture) != found.architecture:
                raise ImageProblem(
                    f"These images are for {found.architecture}, and the engine runs on {here}",
                    where=str(file),
                    hint="save a set on a machine like this one",
                )
            archive.seek(offset)
            engine.load_images(_told(_pieces(archive), "loading", on_event))
    except OSError as error:
        raise FileProblem("The set cannot be read", where=str(file), why=error.strerror or str(error)) from error
    remember_digests({facts.id: facts.digest for facts in found.images.values() if facts.id and facts.digest})
    return found


def _head(made: ImageSet) -> bytes:
    """The first member; the engine's own members follow, so no end is marked."""
    content = made.model_dump_json(indent=2).encode() + b"\n"
    info = tarfile.TarInfo(_NAME)
    info.size = len(content)
    padding = -len(content) % tarfile.BLOCKSIZE
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(padding)


def _checked(archive: BinaryIO, file: Path) -> tuple[ImageSet, int]:
    """What the set says it holds, after a look whether all of that is there, and where the engine's part begins."""
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            first = tar.next()
            if first is None or first.name != _NAME:
                raise _foreign(file, "it does not begin with what a set begins with")
            content = tar.extractfile(first) or io.BytesIO()
            found = ImageSet.model_validate_json(content.read())
            second = tar.next()
            offset = second.offset if second else 0
            _check_whole(tar, found, file)
    except tarfile.ReadError as error:
        raise _foreign(file, str(error)) from error
    except ValidationError as error:
        raise _foreign(file, f"its {_NAME} is of another version") from error
    return found, offset


def _check_whole(tar: tarfile.TarFile, found: ImageSet, file: Path) -> None:
    """Every image that the set names is listed, and every file of it is there. A file that was cut short is not."""
    members = {member.name.removesuffix("/"): member for member in tar.getmembers()}
    listed = tar.extractfile(members[_LIST]) if _LIST in members else None
    entries = json.load(listed) if listed else []
    tags = {_familiar(tag) for entry in entries for tag in entry["RepoTags"] or ()}
    parts = {part for entry in entries for part in (entry["Config"], *entry["Layers"])}
    missing = {facts.reference for facts in found.images.values()} - tags | parts - members.keys()
    if missing:
        raise _foreign(file, f"it lacks {', '.join(sorted(missing))}")


def _familiar(tag: str) -> str:
    """A tag as Docker shortens it; other engines write it out."""
    for full in ("docker.io/library/", "docker.io/", "localhost/"):
        tag = tag.removeprefix(full)
    return tag


def _foreign(file: Path, why: str) -> FileProblem:
    hint = "copy it again, or make one: inv images.save FILE"
    return FileProblem("This is no whole set of images", where=str(file), why=why, hint=hint)


def _pieces(archive: BinaryIO) -> Iterator[bytes]:
    while piece := archive.read(_CHUNK_BYTES):
        yield piece


def _told(pieces: Iterable[bytes], phase: str, on_event: OnImage) -> Iterator[bytes]:
    done_bytes = 0
    for piece in pieces:
        done_bytes += len(piece)
        on_event(ImageEvent("set", phase, f"{done_bytes / _MIB:.0f} MiB"))
        yield piece
