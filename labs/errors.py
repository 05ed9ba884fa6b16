"""Every error the toolkit raises on purpose, and the exit code each one ends a command with.

LabsError                      carries what, where, why, hint
├── CheckFailed            1   a check ran and its answer is no
├── UsageError             2   a wrong word, option or setting
│   ├── FileProblem            a file says something it may not (file:line:column, key path)
│   └── LabConflict            that name belongs to another lab
├── EnvironmentProblem     3   the machine lacks something
│   ├── EngineProblem          the container engine refused or went away
│   │   ├── EngineUnavailable      no engine answers
│   │   ├── NotFound               the engine has no such container, network, image or file
│   │   ├── AddressInUse           a network with these addresses exists already
│   │   └── NoSpace                the engine's disk is full
│   ├── ImageProblem           an image cannot be had
│   │   └── RegistryUnreachable    where it would be pulled from does not answer
│   ├── NotReady               a wait ended before its condition held
│   ├── ControlPlaneProblem    the product's own API or command did not do it
│   │   └── Refused                it said no, and it was it that said so
│   └── ProbeProblem           a probe could not run, so it says nothing about reachability
├── Interrupted            4   the user or the system asked to stop
├── Leftovers              5   something the toolkit made could not be removed
└── Matched                6   what --fail-on names was found
"""

from __future__ import annotations

from typing import ClassVar


class LabsError(Exception):
    """What failed, where (file:line, key path, container), why, and what to try.

    Only `what` is required; the rest is printed when present, always in the same order.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        """The one error format, without colour: one line for each part that is known."""
        parts = [self.what]
        parts += [f"  {label}: {text}" for label, text in self._details() if text]
        return "\n".join(parts)

    def _details(self) -> tuple[tuple[str, str], ...]:
        return (("where", self.where), ("why", self.why), ("try", self.hint))


class CheckFailed(LabsError):
    exit_code = 1


class UsageError(LabsError):
    exit_code = 2


class FileProblem(UsageError):
    """`where` is FILE:LINE:COLUMN followed by the key path."""


class LabConflict(UsageError):
    pass


class EnvironmentProblem(LabsError):
    exit_code = 3


class EngineProblem(EnvironmentProblem):
    pass


class EngineUnavailable(EngineProblem):
    pass


class NotFound(EngineProblem):
    pass


class AddressInUse(EngineProblem):
    pass


class NoSpace(EngineProblem):
    pass


class ImageProblem(EnvironmentProblem):
    pass


class RegistryUnreachable(ImageProblem):
    pass


class NotReady(EnvironmentProblem):
    """`why` holds what was last seen."""


class ControlPlaneProblem(EnvironmentProblem):
    pass


class Refused(ControlPlaneProblem):
    """`why` holds the product's own words."""


class ProbeProblem(EnvironmentProblem):
    pass


class Interrupted(LabsError):
    exit_code = 4


class Leftovers(LabsError):
    exit_code = 5


class Matched(LabsError):
    exit_code = 6
