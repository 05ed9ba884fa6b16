"""The commands, assembled: `namespace` is what `./inv`, `labs` and stock Invoke run."""

from __future__ import annotations

from invoke.collection import Collection

from labs.commands import bench, check, doctor, engine, images, lab, measure, test


def _assemble() -> Collection:
    """Tasks of the verb modules stand at the root; a noun module keeps its name as their prefix."""
    root = Collection()
    for verbs in (lab, check, measure, doctor):
        for name, task in verbs.namespace.tasks.items():
            root.add_task(task, name=name)
    for noun in (test, images, engine, bench):
        root.add_collection(noun.namespace)
    return root


namespace = _assemble()
