"""The commands, assembled: `namespace` is what `./inv`, `labs` and stock Invoke run."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from invoke.collection import Collection

_VERBS = ("lab", "check", "doctor")
_NOUNS = ("test", "images", "engine", "bench")


def _assemble() -> Collection:
    """Tasks of the verb modules stand at the root; a noun module keeps its name as their prefix."""
    root = Collection()
    for module in (name for name in _VERBS if find_spec(f"labs.commands.{name}")):
        for name, task in import_module(f"labs.commands.{module}").namespace.tasks.items():
            root.add_task(task, name=name)
    for module in (name for name in _NOUNS if find_spec(f"labs.commands.{name}")):
        root.add_collection(import_module(f"labs.commands.{module}").namespace, name=module)
    return root


namespace = _assemble()
