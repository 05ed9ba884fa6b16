"""An image's root file system as a tar of which the same ingredients always give the same bytes."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

# Debian has moved these into /usr; packages from before and after come out alike.
_MERGED = ("bin", "sbin", "lib", "lib64")
_NOT_NEEDED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/aarch64-linux-gnu/gconv/", "etc/")
_CERTIFICATES = "usr/share/ca-certificates/"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"hosts: files dns\n",
}
# An extended attribute as tars carry it: version 2 of capabilities(7)'s structure, cap_net_bind_service=ep.
_CAPABILITY = {"SCHILY.xattr.security.capability": struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0).decode()}
_FOLDERS = {"tmp": 0o1777, "root": 0o700, "run": 0o755, "var/lib": 0o755, "var/log": 0o755, "srv": 0o755}


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: int
    content: bytes | Path = b""
    link: str | None = None
    folder: bool = False
    owner: tuple[int, int] = (0, 0)
    binds_ports: bool = False


class RootFs:
    """Collects files and writes them sorted, without times, and owned by root unless it is said otherwise.

    `keep` and `omit` are shell patterns of paths in packages: taken although most images can do without
    them, and left out although they are of a kind that images need.
    """

    def __init__(self, keep: Sequence[str] = (), omit: Sequence[str] = ()) -> None:
        self._entries: dict[str, _Entry] = {}
        self._keep, self._omit = keep, omit
        for name in _MERGED:
            self._entries[name] = _Entry(0o777, link=f"usr/{name}")
        for name, mode in _FOLDERS.items():
            self._entries[name] = _Entry(mode, folder=True)
        self._entries["var/run"] = _Entry(0o777, link="../run")
        for name, content in _ACCOUNTS.items():
            self.add(name, content, 0o644)

    def add(self, path: str, content: bytes | Path, mode: int) -> None:
        self._entries[_merged(path)] = _Entry(mode, content)

    def folder(self, path: str, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        self._entries[_merged(path)] = _Entry(mode, folder=True, owner=owner)

    def link(self, path: str, target: str) -> None:
        """A symbolic link, unless something is there already."""
        self._entries.setdefault(_merged(path), _Entry(0o777, link=target))

    def let_bind_ports(self, path: str) -> None:
        """Give a program the capability to listen below port 1024, as by `setcap cap_net_bind_service=+ep`."""
        name = _merged(path)
        self._entries[name] = replace(self._entries[name], binds_ports=True)

    def add_package(self, archive: BinaryIO) -> None:
        """The files of a Debian package's tar: no documentation, no locales; CA certificates become one bundle."""
        bundle = []
        with tarfile.open(fileobj=archive, mode="r|*") as package:
            for member in package:
                path = _merged(member.name)
                if member.isfile() and path.startswith(_CERTIFICATES) and path.endswith(".crt"):
                    bundle.append((path, _content(package, member)))
                elif not self._wanted(path):
                    continue
                elif member.isfile():
                    self._entries[path] = _Entry(member.mode, _content(package, member))
                elif member.issym():
                    self._entries[path] = _Entry(0o777, link=member.linkname)
        if bundle:
            self.add(_BUNDLE, b"".join(content for _, content in sorted(bundle)), 0o644)

    def add_artifact(self, archive: BinaryIO, path: str, owner: tuple[int, int]) -> None:
        """A released archive at `path`, without its one top folder; files and folders belong to `owner`."""
        top = _merged(path)
        with tarfile.open(fileobj=archive, mode="r|*") as release:
            for member in release:
                _, _, inside = member.name.removeprefix("./").partition("/")
                if member.isfile() and inside:
                    self._entries[f"{top}/{inside}"] = _Entry(
                        member.mode & 0o755, _content(release, member), owner=owner
                    )
        for folder in _parents(name for name in self._entries if name.startswith(f"{top}/")):
            if folder == top or folder.startswith(f"{top}/"):
                self.folder(folder, 0o755, owner)

    def unpack(self, target: Path) -> None:
        """Everything as files in a folder, for a command that needs them there; links lead to the folder's own."""
        for path, entry in sorted(self._entries.items()):
            place = target / path
            if entry.folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if entry.link is not None:
                place.symlink_to(_inside(path, entry.link))
                continue
            place.write_bytes(self.content(path))
            place.chmod(entry.mode)

    def adopt(self, path: str, unpacked: Path) -> None:
        """Take a folder back from where `unpack` put it; it keeps its owner."""
        top = _merged(path)
        owner = self._entries[top].owner
        for name in [name for name in self._entries if name.startswith(f"{top}/")]:
            del self._entries[name]
        for file in sorted((unpacked / top).rglob("*")):
            if file.is_file():
                content = relocated(file.read_bytes(), unpacked)
                self._entries[str(file.relative_to(unpacked))] = _Entry(0o644, content, owner=owner)

    def _wanted(self, path: str) -> bool:
        if any(fnmatchcase(path, pattern) for pattern in self._omit):
            return False
        return not path.startswith(_NOT_NEEDED) or any(fnmatchcase(path, pattern) for pattern in self._keep)

    def content(self, path: str) -> bytes:
        """What a file added from bytes or a package holds. Raises KeyError."""
        content = self._entries[_merged(path)].content
        return content if isinstance(content, bytes) else content.read_bytes()

    def write(self, target: Path) -> None:
        """The tar, with every parent folder."""
        entries = {**{folder: _Entry(0o755, folder=True) for folder in _parents(self._entries)}, **self._entries}
        with tarfile.open(target, "w") as archive:
            for path, entry in sorted(entries.items()):
                _add(archive, path, entry)


def relocated(content: bytes, unpacked: Path) -> bytes:
    """A file's content as if it had been made in the image: no path of this machine, and in a jar no times.

    Class files say how long each text is, so the path becomes as many slashes, which lead to the same place.
    """
    here = str(unpacked).encode()
    if not content.startswith(b"PK"):
        return content.replace(here, b"/" * len(here))
    jar = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(zipfile.ZipInfo(name), relocated(before.read(name), unpacked), zipfile.ZIP_DEFLATED)
    return jar.getvalue()


def _inside(path: str, link: str) -> str:
    """A link's target from where the link is, so that it works wherever the root is."""
    return os.path.relpath(link.lstrip("/"), Path(path).parent) if link.startswith("/") else link


def _add(archive: tarfile.TarFile, path: str, entry: _Entry) -> None:
    info = tarfile.TarInfo(path)
    info.mode = entry.mode
    info.uid, info.gid = entry.owner
    info.pax_headers = _CAPABILITY if entry.binds_ports else {}
    if entry.folder or entry.link is not None:
        info.type = tarfile.DIRTYPE if entry.folder else tarfile.SYMTYPE
        info.linkname = entry.link or ""
        archive.addfile(info)
        return
    if isinstance(entry.content, bytes):
        info.size = len(entry.content)
        archive.addfile(info, io.BytesIO(entry.content))
        return
    info.size = entry.content.stat().st_size
    with entry.content.open("rb") as file:
        archive.addfile(info, file)


def _merged(path: str) -> str:
    clean = path.removeprefix("./").strip("/")
    first, slash, rest = clean.partition("/")
    return f"usr/{first}/{rest}" if slash and first in _MERGED else clean


def _parents(paths: Iterable[str]) -> set[str]:
    return {str(parent) for path in paths for parent in Path(path).parents if str(parent) != "."}


def _content(package: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = package.extractfile(member)
    return file.read() if file else b""
