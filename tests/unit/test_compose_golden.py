"""Bad Compose files and the exact message about each, side by side in golden/compose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs.compose import read
from labs.errors import FileProblem

FOLDER = Path(__file__).parent / "golden" / "compose"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def message(name: str, tmp_path: Path) -> str:
    """The file alone in a folder called after it, as a topology's would be."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "compose.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    (folder / "config.yaml").write_text("")
    with pytest.raises(FileProblem) as refused:
        read(folder, {})
    return f"{refused.value}\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_gets_exactly_this_message(name: str, tmp_path: Path) -> None:
    """UPDATE_GOLDEN=1 writes what is said now."""
    said, golden = message(name, tmp_path), FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()


def test_every_message_has_its_file_and_says_where() -> None:
    messages = {file.stem: file.read_text() for file in FOLDER.glob("*.txt")}
    assert sorted(messages) == NAMES
    assert len(messages) >= 15
    for name, text in messages.items():
        assert f"  where: {name}/compose.yaml:" in text
