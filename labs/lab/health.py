"""Whether a lab is whole: asked of the engine and of each service itself, from labels alone."""

from __future__ import annotations

from labs.controlplanes.ready import serves
from labs.engine import Engine, State
from labs.errors import LabConflict
from labs.lab import labels
from labs.lab.lab import Lab, find
from labs.lab.plan import Plan
from labs.model import Role
from labs.timing import Clock


def problems(lab: Lab) -> tuple[str, ...]:
    """What is wrong, a sentence each; empty when everything runs and every service serves."""
    found = [f"{member.name} is {member.state}" for member in lab.members.values() if member.state is not State.RUNNING]
    for member in lab.with_role(Role.SERVICE):
        address = member.machine.addresses.get(lab.control)
        if member.state is not State.RUNNING or not member.ready or not address:
            continue
        if seen := serves(lab.reach.dial, address, member.ready):
            found.append(f"{member.name} does not serve: {seen}")
    return tuple(found)


def existing(plan: Plan, engine: Engine, clock: Clock) -> Lab | None:
    """The healthy lab that `plan` asks for, when it is there already; None when nothing has its name.

    Raises LabConflict when something else has: other settings, another checkout's lab, a broken one.
    """
    marks = {labels.LAB: plan.name}
    if not engine.containers(marks):
        if engine.networks(marks) or engine.volumes(marks):
            raise _conflict(plan.name, "is only half there", f"inv down {plan.name}, then try again")
        return None
    lab = find(engine, plan.name, clock)
    if lab.owner != plan.owner:
        raise _conflict(plan.name, "belongs to another checkout", "choose another name: --name NAME")
    if lab.settings != plan.settings:
        raise _conflict(plan.name, "has other settings", f"--name NAME for a second one, or inv down {plan.name} first")
    if wrong := problems(lab):
        raise _conflict(plan.name, "is not healthy", f"inv down {plan.name}, then try again", "; ".join(wrong))
    return lab


def _conflict(name: str, what: str, hint: str, why: str = "") -> LabConflict:
    return LabConflict(f"A lab called {name} {what}", why=why, hint=hint)
