"""`inv doctor`: what a lab needs of this machine, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.errors import EnvironmentProblem

if TYPE_CHECKING:
    from labs.doctor.checks import Facts


@task(
    positional=["topology"],
    optional=["topology"],
    help={
        "topology": "Whether there is room for this one (default: for each, and none of them has to fit).",
        "json": "Print one JSON document: can_run, and each check's name, level, seen and todo.",
    },
)
def doctor(_: Context, topology: str = "", json: bool = False) -> None:
    """Look at what a lab needs of this machine, without starting or installing anything.

    Exits 3 when no lab can be started here and the toolkit cannot change that, or not of the topology named. Example:

        inv doctor netbird-external-idp
    """
    from labs.commands.common import console, emit_json  # noqa: PLC0415 - start-up time
    from labs.doctor.checks import Level, can_run, judge, render  # noqa: PLC0415
    from labs.lab.plan import topology_folder  # noqa: PLC0415

    if topology:
        topology_folder(topology)
    checks = judge(_facts(), topology)
    if json:
        emit_json({"can_run": can_run(checks), "checks": checks})
    else:
        console().line(render(checks))
    if not can_run(checks):
        failed = ", ".join(check.name for check in checks if check.level is Level.FAIL)
        raise EnvironmentProblem("This machine cannot run a lab yet", where=failed)


def _facts() -> Facts:
    from labs.doctor.machine import current, find_engine, observe  # noqa: PLC0415
    from labs.engine.docker_engine import DockerEngine  # noqa: PLC0415 - start-up time

    environment, home, system = current()
    found, facts = find_engine(environment, home, system)
    engine = DockerEngine(found.url) if found else None
    try:
        return observe(environment, engine, found, facts)
    finally:
        if engine:
            engine.close()


namespace = Collection("doctor", doctor)
