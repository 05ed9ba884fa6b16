"""What a lab needs of the machine: facts, judged into checks, shown as text. Nothing is started or installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from labs.engine.protocol import EngineInfo
from labs.model import Needed

PYTHON_MINIMUM = (3, 11)

_GIB = 1 << 30
_MEMORY_LOW_BYTES = 1 * _GIB
_DISK_LOW_BYTES = 8 * _GIB  # Go's caches, the image cache and the engine held 6.5 GiB once every image was built
_DISK_FULL_BYTES = 1 * _GIB
_CLOCKS_APART = timedelta(minutes=1)  # reading both takes milliseconds; keys and certificates allow no year


class Level(StrEnum):
    """`warn`: a lab can be started, with the drawback that is named."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `todo` is empty when there is nothing to do."""

    name: str
    level: Level
    seen: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system by what the toolkit keeps there."""

    purpose: str
    path: Path
    free_bytes: int


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The engine that would be used. Without one `problem` says why; `startable`: the toolkit would start its own."""

    info: EngineInfo | None
    source: str = ""
    problem: str = ""
    todo: str = ""
    startable: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """The machine as it was found. Sizes in bytes; None where the machine does not say.

    `images_to_build` are neither in the engine nor in the cache, and `may_pull` says that they are built
    only when they cannot be pulled; `cgroups` says whether dockerd would find control groups mounted;
    `clock` and `newest_file` are points in time; `needed` is what each topology takes.
    """

    python: tuple[int, ...]
    engine: EngineFacts
    root: bool
    tun: bool
    kernel: str
    cgroups: bool
    memory_available_bytes: int | None
    disks: tuple[Disk, ...]
    go: str | None
    go_needed: str
    gcc: bool
    apt: bool
    may_install: bool
    images_to_build: tuple[str, ...]
    ip_forward: bool | None
    bridge_filter: bool | None
    clock: datetime
    newest_file: datetime
    needed: Mapping[str, Needed] = field(default_factory=dict)
    may_pull: bool = False


def judge(facts: Facts, topology: str = "") -> tuple[Check, ...]:
    """Every check, in the order in which they are shown; with a `topology` whether there is room for that one."""
    return (
        _python(facts),
        _engine(facts),
        _cgroups(facts),
        _root(facts),
        _tun(facts),
        Check("kernel", Level.OK, facts.kernel),
        _memory(facts),
        *map(_disk, facts.disks),
        _room(facts, topology),
        *_build_tools(facts),
        _forwarding(facts),
        _bridge(facts),
        _clock(facts),
    )


def can_run(checks: Iterable[Check]) -> bool:
    """Whether a lab can be started, or the toolkit can make it so."""
    return all(check.level is not Level.FAIL for check in checks)


def render(checks: Sequence[Check]) -> str:
    """One line for each check, what to do below it, and the verdict."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        first, *more = check.seen.splitlines() or [""]
        lines.append(f"{check.level:<4}  {check.name:<{width}}  {first}")
        margin = " " * (width + 8)
        lines += [f"{margin}{line}" for line in more]
        lines += [f"{margin}try: {check.todo}"] if check.todo else []
    failed = [check.name for check in checks if check.level is Level.FAIL]
    verdict = f"No lab can be started here yet: {', '.join(failed)}" if failed else "A lab can be started here."
    return "\n".join([*lines, "", verdict])


def _python(facts: Facts) -> Check:
    seen = ".".join(map(str, facts.python))
    if facts.python < PYTHON_MINIMUM:
        return Check("python", Level.FAIL, seen, f"install Python {'.'.join(map(str, PYTHON_MINIMUM))} or later")
    return Check("python", Level.OK, seen)


def _engine(facts: Facts) -> Check:
    engine = facts.engine
    if engine.info is None:
        if engine.startable:
            return Check("engine", Level.OK, f"{engine.problem}; the first command that needs one starts a private one")
        return Check("engine", Level.FAIL, engine.problem, engine.todo)
    info = engine.info
    kind = "rootless" if info.rootless else "rootful"
    product = "Podman " if _is_podman(info) else ""
    seen = (
        f"{product}{info.version}, API {info.api_version}, {info.storage_driver}, cgroup v{info.cgroup_version}, {kind}"
        f"\n{info.endpoint} ({engine.source})"
    )
    drawbacks = dict(_drawbacks(facts, info))
    todo = "; ".join(filter(None, drawbacks.values()))
    return Check("engine", Level.WARN if drawbacks else Level.OK, "\n".join([seen, *drawbacks]), todo)


def _drawbacks(facts: Facts, info: EngineInfo) -> Iterator[tuple[str, str]]:
    """What a lab cannot do on this engine, each with what helps; see docs/engines.md."""
    if info.storage_driver == "vfs":
        yield "the vfs driver copies every layer", "use overlay2 for speed and room"
    if not info.counts_memory:
        yield "no container's memory is counted or limited: nothing can be measured here", ""
    if info.rootless and info.cgroup_version == 1:
        yield "no container can be paused: rootless engines have no control groups of version 1", ""
    if _is_podman(info) and info.local and facts.bridge_filter:
        todo = "iptables -I FORWARD -i podman+ -o podman+ -j ACCEPT"
        yield "where a Docker engine runs as well, its firewall stops what crosses Podman's internal networks", todo


def _is_podman(info: EngineInfo) -> bool:
    return info.product == "Podman"


def _elsewhere(facts: Facts) -> bool:
    return facts.engine.info is not None and not facts.engine.info.local


def _cgroups(facts: Facts) -> Check:
    if facts.cgroups or facts.engine.info:
        return Check("cgroups", Level.OK, "mounted" if facts.cgroups else "the engine has them")
    todo = "mount -t cgroup2 none /sys/fs/cgroup, or for version 1 the package cgroupfs-mount"
    return Check("cgroups", Level.FAIL, "not mounted, and an engine needs them", todo)


def _root(facts: Facts) -> Check:
    if facts.root:
        return Check("root", Level.OK, "yes")
    return Check("root", Level.OK, "no, and it is not needed while an engine answers")


def _tun(facts: Facts) -> Check:
    if _elsewhere(facts):
        return Check("tun", Level.OK, "not looked at: the engine is on another machine")
    if facts.tun:
        return Check("tun", Level.OK, "/dev/net/tun")
    todo = "modprobe tun; in a container: mkdir -p /dev/net && mknod /dev/net/tun c 10 200"
    return Check("tun", Level.FAIL, "/dev/net/tun is not there, and peers need it", todo)


def _memory(facts: Facts) -> Check:
    free = facts.memory_available_bytes
    if free is None:
        return Check("memory", Level.OK, "the machine does not say")
    if free < _MEMORY_LOW_BYTES:
        return Check("memory", Level.WARN, f"{_size(free)} available", "end something else, or start one lab at a time")
    return Check("memory", Level.OK, f"{_size(free)} available")


def _disk(disk: Disk) -> Check:
    seen = f"{_size(disk.free_bytes)} free in {disk.path}"
    if disk.free_bytes < _DISK_FULL_BYTES:
        return Check(f"disk: {disk.purpose}", Level.FAIL, seen, f"free at least {_size(_DISK_FULL_BYTES)}")
    if disk.free_bytes < _DISK_LOW_BYTES:
        return Check(f"disk: {disk.purpose}", Level.WARN, seen, f"building images may need {_size(_DISK_LOW_BYTES)}")
    return Check(f"disk: {disk.purpose}", Level.OK, seen)


def _room(facts: Facts, topology: str) -> Check:
    """Whether each topology's services have the memory and the disk that they were seen to take; peers come on top."""
    asked = {name: needed for name, needed in facts.needed.items() if topology in ("", name)}
    lacking = [f"{name} {wants}" for name, needed in asked.items() for wants in _wants(facts, needed)]
    if not lacking:
        need = f" ({_size(asked[topology].memory_bytes)} of memory)" if topology in asked else ""
        return Check("topologies", Level.OK, f"there is room for {topology or f'all {len(asked)}'}{need}")
    todo = "end something else, free some disk, or take a smaller topology"
    return Check("topologies", Level.FAIL if topology else Level.WARN, "\n".join(lacking), todo)


def _wants(facts: Facts, needed: Needed) -> Iterator[str]:
    """What one topology lacks. An engine elsewhere says how much memory its machine has, not how much is free."""
    elsewhere = _elsewhere(facts) and facts.engine.info is not None
    memory = facts.engine.info.memory_bytes if facts.engine.info and elsewhere else facts.memory_available_bytes
    if memory is not None and memory < needed.memory_bytes:
        yield f"needs {_size(needed.memory_bytes)} of memory, and {_size(memory)} is there"
    for disk in facts.disks:
        if disk.purpose == "engine" and disk.free_bytes < needed.disk_bytes:
            yield f"needs {_size(needed.disk_bytes)} of disk, and {_size(disk.free_bytes)} is free"


def _build_tools(facts: Facts) -> tuple[Check, ...]:
    """Go, gcc and apt. They are needed only for images that are not there yet."""
    missing = facts.images_to_build
    level = Level.FAIL if missing and not facts.may_pull else Level.WARN
    need = f"needed to build {', '.join(missing)}" if missing else "needed only to build images, and none has to be"
    need += " unless they can be pulled" if missing and facts.may_pull else ""
    return (
        _go(facts, level, need),
        _gcc(facts, level, need),
        Check("apt", Level.OK, "yes") if facts.apt else Check("apt", level, f"no; {need}", "use Debian or Ubuntu"),
    )


def _go(facts: Facts, level: Level, need: str) -> Check:
    todo = f"install Go {facts.go_needed} or later: https://go.dev/dl"
    if facts.go is None:
        return Check("go", level, f"not installed; {need}", todo)
    if _numbers(facts.go) < _numbers(facts.go_needed):
        return Check("go", level, f"{facts.go}, older than {facts.go_needed}; {need}", todo)
    return Check("go", Level.OK, f"{facts.go} ({facts.go_needed} or later is needed)")


def _gcc(facts: Facts, level: Level, need: str) -> Check:
    if facts.gcc:
        return Check("gcc", Level.OK, "yes")
    if facts.may_install:
        return Check("gcc", Level.OK, "no; installed when a build needs it")
    return Check("gcc", level, f"not installed; {need}", "apt-get install gcc libc6-dev")


def _forwarding(facts: Facts) -> Check:
    if _elsewhere(facts) or facts.ip_forward is None:
        return Check("forwarding", Level.OK, "not looked at")
    if facts.ip_forward:
        return Check("forwarding", Level.OK, "net.ipv4.ip_forward is 1")
    if facts.engine.startable:
        return Check("forwarding", Level.OK, "net.ipv4.ip_forward is 0; the engine sets it when it starts")
    return Check("forwarding", Level.WARN, "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1")


def _bridge(facts: Facts) -> Check:
    """What the kernel does with bridged packets. Either way works; it explains firewall surprises."""
    words = {None: "br_netfilter is not loaded", True: "packets pass the host's firewall", False: "packets pass freely"}
    return Check("bridges", Level.OK, words[facts.bridge_filter])


def _clock(facts: Facts) -> Check:
    seen = facts.clock.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if facts.clock < facts.newest_file:
        since = facts.newest_file.astimezone(UTC).strftime("%Y-%m-%d")
        todo = "set the clock: certificates and keys depend on it"
        return Check("clock", Level.WARN, f"{seen}, before mesh-labs was installed ({since})", todo)
    apart = _ahead(facts)
    if abs(apart) > _CLOCKS_APART:
        side = "ahead of" if apart > timedelta() else "behind"
        todo = "set one of them: what the engine's containers sign, this machine checks"
        return Check("clock", Level.WARN, f"{seen}; the engine's is {abs(apart)} {side} it", todo)
    return Check("clock", Level.OK, seen)


def _ahead(facts: Facts) -> timedelta:
    """By how much the engine's clock is ahead of this machine's; nothing where there is none, or it does not say."""
    if facts.engine.info is None or not facts.engine.info.clock:
        return timedelta()
    apart = datetime.fromisoformat(facts.engine.info.clock) - facts.clock
    return timedelta(seconds=round(apart.total_seconds()))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.removeprefix("go").split("-")[0].split(".")
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts[:3])
