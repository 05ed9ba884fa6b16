"""From a topology's name to a running lab, images included: what commands, scenarios and tests have in common."""

from __future__ import annotations

from collections.abc import Callable

from labs.engine import Engine
from labs.images import ImageEvent, ensure
from labs.lab.files import name_taken
from labs.lab.health import existing
from labs.lab.lab import Lab
from labs.lab.plan import Plan, image_variables
from labs.lab.up import OnStep, up
from labs.model import Inventory
from labs.timing import SystemClock


def start(
    engine: Engine,
    topology: str,
    name: str,
    inventory: Inventory,
    on_step: OnStep,
    on_image: Callable[[ImageEvent], None],
    *,
    keep: bool = False,
) -> tuple[Lab, bool]:
    """The lab that is asked for, and whether it is new: the healthy one that is there already is not started again.

    Raises what `labs.images.ensure` and `labs.lab.up.up` raise, and LabConflict.
    """
    clock = SystemClock()
    plan = Plan(name, topology, inventory, ensure(engine, image_variables(topology, inventory), on_image))
    with name_taken(name):
        found = existing(plan, engine, clock)
        return (found, False) if found else (up(plan, engine, clock, on_step, keep=keep), True)
