"""docs/commands.md and the commands' own help say what there is."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from labs import errors
from labs.commands import namespace
from labs.commands.usage import typed_names
from labs.images import Source

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "commands.md").read_text()
COMMANDS = typed_names(namespace)


@pytest.mark.parametrize("name", sorted(COMMANDS), ids=str)
def test_a_command_is_documented_and_has_an_example(name: str) -> None:
    typed = COMMANDS[name]
    assert re.search(rf"^\| `inv {re.escape(typed)}[ `]", DOCS, re.MULTILINE), f"no row for {typed}"
    help_text = inspect.getdoc(namespace[name]) or ""
    assert re.search(rf"^ *inv {re.escape(typed)}( |$)", help_text, re.MULTILINE), f"no example: inv {typed}"


def test_every_option_of_a_command_is_explained() -> None:
    # A fresh process: a task gives its help texts away once, to the first that asks.
    program = (
        "from labs.commands import namespace as n\n"
        "print(*[f'{c}: {a.name}' for c in n.task_names for a in n[c].get_arguments() if not a.help], sep='\\n')"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n") == ["", ""]


def test_no_row_is_about_a_command_that_does_not_exist() -> None:
    rows = re.findall(r"^\| `inv ([a-z.-]+)", DOCS, re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS.values())


def test_every_exit_code_is_documented() -> None:
    codes = {error.exit_code for error in vars(errors).values() if isinstance(error, type)} | {0, 6}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", DOCS, re.MULTILINE)} == codes


def test_the_users_workflow_says_commands_and_options_that_there_are() -> None:
    document = yaml.safe_load((ROOT / ".github" / "workflows" / "labs.yaml").read_text())
    (job,) = document["jobs"].values()
    assert job["env"]["MESH_LABS_IMAGES"] in list(Source)
    lines = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    assert lines
    for program, command, *words in lines:
        assert program == "./inv"
        options = {name for argument in namespace[command].get_arguments() for name in argument.names}
        assert {word.removeprefix("--") for word in words if word.startswith("--")} <= options
