"""`inv engine.*`: the engine that the toolkit runs itself where no other one answers."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from labs.errors import EngineUnavailable, UsageError

if TYPE_CHECKING:
    from labs.engine.private import PrivateEngine


@task
def start(_: Context) -> None:
    """Start the toolkit's own engine, installing docker.io first where it is missing.

    Needs root on Debian or Ubuntu. Does nothing when it runs already.

    Example:
        inv engine.start
    """
    from labs.commands.common import console  # noqa: PLC0415 - start-up time

    output = console()
    endpoint = _private().start(output.line)
    output.line(f"the private engine answers at {endpoint}")


@task(
    help={
        "purge": "Remove its containers, networks, images and files as well.",
        "force": "Stop it even while a lab runs on it.",
    }
)
def stop(_: Context, purge: bool = False, force: bool = False) -> None:
    """Stop the toolkit's own engine; its images stay for the next start.

    Refuses with exit code 2 while a lab runs on it. docker.io stays installed.

    Example:
        inv engine.stop --purge
    """
    from labs.commands.common import console  # noqa: PLC0415 - start-up time

    engine = _private()
    engine.stop(force=force, purge=purge)
    words = "is removed; docker.io stays installed" if purge else "is stopped"
    console().line(f"the private engine at {engine.paths.endpoint} {words}")


@task(help={"json": "Print one JSON document: state, pid, endpoint."})
def status(_: Context, json: bool = False) -> None:
    """Show whether the toolkit's own engine runs: running, stopped, or stale after a crash.

    Example:
        inv engine.status
    """
    from labs.commands.common import console, emit_json  # noqa: PLC0415 - start-up time

    seen = _private().status()
    if json:
        emit_json(seen)
        return
    console().table(("STATE", "PID", "ENDPOINT"), [(seen.state, seen.pid or "-", seen.endpoint)])


@task
def env(_: Context) -> None:
    """Print the line that points other tools at the toolkit's own engine; exit code 3 when it does not run.

    Example:
        inv engine.env
    """
    from labs.commands.common import console  # noqa: PLC0415 - start-up time
    from labs.engine.private import PrivateState  # noqa: PLC0415 - start-up time

    seen = _private().status()
    if seen.state is not PrivateState.RUNNING:
        raise EngineUnavailable(f"The private engine is {seen.state}", where=seen.endpoint, hint="inv engine.start")
    console().line(f"export DOCKER_HOST={shlex.quote(seen.endpoint)}")


def _private() -> PrivateEngine:
    """The private engine. Raises UsageError when another one was named: that one is not the toolkit's to stop."""
    from labs.engine.private import private_engine  # noqa: PLC0415 - start-up time
    from labs.engine.select import NAMED, PRIVATE  # noqa: PLC0415

    if (named := os.environ.get(NAMED, PRIVATE)) not in ("", PRIVATE):
        raise UsageError(
            f"The toolkit neither starts nor stops the engine {named}",
            why="inv engine.* is about the private engine",
            hint=f"--engine {PRIVATE}, or leave it out",
        )
    return private_engine()


namespace = Collection("engine", start, stop, status, env)
