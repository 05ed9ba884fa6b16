"""Waiting for something inside a container."""

from __future__ import annotations

from labs.engine.protocol import Engine
from labs.errors import NotReady

_PAUSE_S = 0.05


def wait_inside(engine: Engine, container_id: str, test: str, *, what: str, where: str, timeout_s: float) -> None:
    """Return once the shell command `test` succeeds in the container. Raises NotReady with its last log lines.

    The loop runs inside: one exec in all, where asking from outside would cost one for each try.
    """
    tries = int(timeout_s / _PAUSE_S)
    loop = f"n=0; until {test}; do n=$((n+1)); [ $n -gt {tries} ] && exit 1; sleep {_PAUSE_S}; done"
    result = engine.exec(container_id, ["sh", "-c", loop])
    if not result.ok:
        raise NotReady(
            f"{what} did not come about within {timeout_s:g} s",
            where=where,
            why=result.stderr.strip() or engine.logs(container_id, tail=5).strip(),
            hint=f"inv logs {where}",
        )
