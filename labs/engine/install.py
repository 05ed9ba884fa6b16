"""Installing the engine's Debian packages without letting them start their services."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labs.engine.host import System
from labs.errors import EngineUnavailable

POLICY = Path("/usr/sbin/policy-rc.d")

_PACKAGES = {"dockerd": "docker.io", "iptables": "iptables"}  # by the program each one brings
_DENIED = 101  # the exit code by which policy-rc.d forbids an action
_OURS = "#!/bin/sh\n# mesh-labs: no service starts while it installs packages\nexit 101\n"


def install(system: System, on_event: Callable[[str], None], policy: Path = POLICY) -> None:
    """Install what dockerd needs and is not there; with everything there, nothing happens.

    Raises EngineUnavailable off Debian, and when the packages cannot be had.
    """
    packages = [package for program, package in _PACKAGES.items() if not system.which(program)]
    if not packages:
        return
    if not system.is_debian():
        if system.which("dockerd"):
            return
        raise EngineUnavailable(
            "No container engine answers, and one can be installed on Debian and Ubuntu only",
            hint="install Docker Engine 20.10 or later and start it, or set DOCKER_HOST",
        )
    on_event(f"installing {' and '.join(packages)}; their services are not started")
    with services_denied(system, policy):
        _apt_install(system, packages)


def _apt_install(system: System, packages: list[str]) -> None:
    command = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", *packages)
    outcome = system.run(command)
    if outcome.code:
        system.run(("apt-get", "update", "--quiet"))
        outcome = system.run(command)
    if outcome.code:
        raise EngineUnavailable(
            f"{' and '.join(packages)} could not be installed",
            where=" ".join(command),
            why="\n".join(outcome.output.splitlines()[-6:]),
            hint="install it by hand, or set DOCKER_HOST to an engine that runs",
        )


@contextmanager
def services_denied(system: System, policy: Path) -> Iterator[None]:
    """Forbid service starts meanwhile, and put back what was there, whatever happens.

    A policy that forbids them already is kept. What a killed run left behind is put right as well.
    """
    kept = policy.with_name(f"{policy.name}.before-mesh-labs")
    left_by_us = _is_ours(policy)
    if not left_by_us and _denies(system, policy):
        yield
        return
    try:
        if not left_by_us:
            _put_in_place(policy, kept)
        yield
    finally:
        if kept.exists() or kept.is_symlink():
            kept.replace(policy)
        elif _is_ours(policy):
            policy.unlink()


def _is_ours(policy: Path) -> bool:
    return policy.exists() and policy.read_text(errors="replace") == _OURS


def _denies(system: System, policy: Path) -> bool:
    return os.access(policy, os.X_OK) and system.run((str(policy), "docker", "start")).code == _DENIED


def _put_in_place(policy: Path, kept: Path) -> None:
    if policy.exists() or policy.is_symlink():
        policy.replace(kept)
    new = policy.with_name(f"{policy.name}.mesh-labs")
    new.write_text(_OURS)
    new.chmod(0o755)
    new.replace(policy)
