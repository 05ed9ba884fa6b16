"""A lab's containers counted and weighed, and the machine it was done on."""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from labs import __version__
from labs.engine import Engine, State
from labs.images import image_facts
from labs.lab import Lab, Member
from labs.measure.sampler import Sampler
from labs.model import Role
from labs.results import ContainerFigures, EnvironmentFacts, StackFigures


def take(lab: Lab, sampler: Sampler, phase: str) -> StackFigures:
    """One reading of every running container of a lab, services first. Hosts and helpers count as helpers."""
    running = [member for member in lab.members.values() if member.state is State.RUNNING]
    order = list(Role)
    members = sorted(running, key=lambda member: (order.index(member.role), member.name))
    counts = Counter(member.role for member in members)
    return StackFigures(
        topology=lab.topology,
        product=lab.product,
        phase=phase,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        backend=sampler.backend,
        services=counts[Role.SERVICE],
        peers=counts[Role.PEER],
        helpers=counts[Role.HOST] + counts[Role.HELPER],
        containers=tuple(_figures(member, sampler) for member in members),
    )


def _figures(member: Member, sampler: Sampler) -> ContainerFigures:
    memory = sampler.read(member.machine.container_id)
    return ContainerFigures(
        name=member.name,
        role=member.role,
        image=member.image,
        anonymous_bytes=memory.anonymous_bytes,
        shared_bytes=memory.shared_bytes,
        working_set_bytes=memory.working_set_bytes,
        usage_bytes=memory.usage_bytes,
    )


def _processor() -> str | None:
    """The first processor's name."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else None


def environment(engine: Engine, references: set[str]) -> EnvironmentFacts:
    """The machine, the engine, and the images with where each came from. No host names and no paths."""
    info = engine.info()
    return EnvironmentFacts(
        toolkit=__version__,
        engine=info.product,
        engine_version=info.version,
        api_version=info.api_version,
        cgroup_version=info.cgroup_version,
        storage_driver=info.storage_driver,
        kernel=info.kernel,
        os=info.os,
        cpus=info.cpus,
        memory_bytes=info.memory_bytes,
        load_1m=round(os.getloadavg()[0], 2),
        images={reference: image_facts(engine.image(reference)) for reference in sorted(references)},
        cpu=_processor() if info.local else None,
        other_containers=len(engine.containers({})),
    )
