"""Start-up speed: assembling the commands must not load what only running them needs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"docker", "httpx", "pydantic", "pytest", "requests", "rich", "yaml"}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    program = f"{statement}; import sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in answer.stdout.split()}


def test_the_commands_load_nothing_heavy() -> None:
    # Invoke itself takes the C parser of an installed PyYAML, so yaml is there before any of ours.
    brought_by_invoke = loaded_by("import invoke")
    assert loaded_by("import labs.commands.cli") & HEAVY <= brought_by_invoke & {"yaml"}


def test_our_modules_do_not_load_yaml() -> None:
    program = "import sys; sys.modules['yaml'] = None; import labs.commands.cli"
    assert "labs" in loaded_by(program)


def test_the_seams_load_nothing_heavy() -> None:
    assert not loaded_by("import labs.errors, labs.model, labs.engine.protocol") & HEAVY
