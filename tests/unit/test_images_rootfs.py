"""What recipes add to a root file system: folders with owners, and paths kept in or left out of packages."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from labs.images.catalogue import RecipeSpec
from labs.images.provenance import labels
from labs.images.rootfs import RootFs
from labs.yamlsource import parse, validated


def archive(files: dict[str, bytes], mode: str = "w") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def written(root: RootFs, folder: Path) -> dict[str, tarfile.TarInfo]:
    root.write(folder / "root.tar")
    with tarfile.open(folder / "root.tar") as tar:
        return {member.name: member for member in tar}


def test_a_folder_has_its_mode_and_owner(tmp_path: Path) -> None:
    root = RootFs()
    root.folder("/run/postgresql", 0o3777, (999, 998))
    root.add("/srv/page", b"", 0o644)
    found = written(root, tmp_path)
    kept = found["run/postgresql"]
    assert (kept.isdir(), kept.mode, kept.uid, kept.gid) == (True, 0o3777, 999, 998)
    assert (found["srv/page"].uid, found["srv"].uid) == (0, 0)


def test_a_program_carries_its_capability(tmp_path: Path) -> None:
    """As setcap writes it: version 2 and effective, permitted bit 10, nothing inheritable."""
    root = RootFs()
    root.add("/bin/server", b"#!", 0o755)
    root.add("/bin/other", b"#!", 0o755)
    root.let_bind_ports("/bin/server")
    found = written(root, tmp_path)
    (key, value), *others = found["usr/bin/server"].pax_headers.items()
    assert (key, value.encode().hex()) == ("SCHILY.xattr.security.capability", "0100000200040000" + "00" * 12)
    assert (others, found["usr/bin/other"].pax_headers) == ([], {})
    with pytest.raises(KeyError):
        root.let_bind_ports("/bin/nobody")


def test_a_recipe_keeps_and_omits_parts_of_packages(tmp_path: Path) -> None:
    files = {"./usr/share/zoneinfo/UTC": b"", "./usr/share/zoneinfo/right/UTC": b"", "./usr/share/doc/x": b""}
    root = RootFs(keep=["usr/share/zoneinfo/*"], omit=["*/right/*", "usr/lib/jit*"])
    root.add_package(archive({**files, "./lib/jit.so": b"", "./lib/other.so": b""}))
    found = written(root, tmp_path)
    assert {"usr/share/zoneinfo/UTC", "usr/lib/other.so"} <= set(found)
    assert not [name for name in found if "right" in name or "doc" in name or "jit" in name]


def spec(text: str) -> RecipeSpec:
    return validated(parse(f"name: x\nversion: '1'\nvariable: X_IMAGE\n{text}", "x.yaml"), RecipeSpec)


def test_folders_in_a_recipe_file() -> None:
    (folder,) = spec("folders: [{path: /data, mode: '1777', owner: {uid: 1000}}]\n").folders
    assert (folder.path, folder.mode, folder.owner.uid, folder.owner.gid) == ("/data", 0o1777, 1000, 0)


def test_a_stand_in_says_so_in_its_label() -> None:
    from labs.images import recipe

    found = labels(recipe("netbird-dashboard"), {})
    assert "in place of NetBird's dashboard" in found["org.mesh-labs.stand-in"]
    assert "org.mesh-labs.stand-in" not in labels(recipe("headscale"), {})
