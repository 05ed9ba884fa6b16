"""What docs/topologies.md says of the files is what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labs import resources
from labs.compose import access, needs

DOCUMENT = (Path(__file__).parents[2] / "docs" / "topologies.md").read_text()
FOLDERS = sorted(file.parent for file in resources.path("compose").glob("*/compose.yaml"))
BY_HAND = [folder for folder in FOLDERS if folder.name != "netbird-external-idp"]


@pytest.mark.parametrize("folder", BY_HAND, ids=lambda folder: folder.name)
def test_the_url_that_clients_are_given_by_hand(folder: Path) -> None:
    url = access(folder).joins.replace("{headscale}", needs(folder).variables.get("HEADSCALE_ADDRESS", ""))
    (row,) = re.findall(
        rf"^\| (?:`[a-z-]+`, )*`{folder.name}`(?:, `[a-z-]+`)* \| (`https?:.*) \|$", DOCUMENT, re.MULTILINE
    )
    assert f"`{url}`" in row


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_port_has_its_variable_in_the_table(folder: Path) -> None:
    ports = [name for name in needs(folder).variables if name.endswith("_PORT")]
    assert [name for name in ports if f"`{name}`" not in DOCUMENT] == []
