"""The bootstrap script, with a stand-in for Python's own part so that each test takes milliseconds.

The stand-in makes a .venv whose `python` prints its arguments. Locking is done by the real Python.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INV = Path(__file__).parents[2] / "inv"

# Every shell this machine has; sh is always one of them.
SHELLS = [("sh",), *((name,) for name in ("dash", "bash") if shutil.which(name))]
SHELLS += [("busybox", "sh")] if shutil.which("busybox") else []

# `-m venv DIR` makes an environment, after waiting for the file `gate` to vanish; `-c` is real Python's.
FAKE_PYTHON = """#!/bin/sh
case $1 in
-c) exec {real} "$@" ;;
-m) mkdir -p "$3/bin" && echo "$*" >>"{calls}" ;;
esac
while [ -e "{gate}" ]; do sleep 0.01; done
[ ! -e "{broken}" ] || exit 1
printf '#!%s/bin/python\\n' "$3" >"$3/bin/tool"
cat >"$3/bin/python" <<'END'
#!/bin/sh
case $1 in
-c) exec {real} "$@" ;;
-m) echo "$*" >>"{calls}" ;;
-P) shift; echo "ran: $*" ;;
esac
END
chmod +x "$3/bin/python"
"""


class Checkout:
    """A copy of the files `inv` reads, in a folder whose name has everything a path may have."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "check out & 'co|py'"
        self.root.mkdir()
        self.venv = self.root / ".venv"
        self.calls, self.gate, self.broken = folder / "calls", folder / "gate", folder / "broken"
        shutil.copy(INV, self.root / "inv")
        (self.root / "requirements.lock").write_text("one\n")
        (self.root / "pyproject.toml").write_text("two\n")
        python = folder / "bin" / "python3"
        python.parent.mkdir()
        paths = {"real": sys.executable, "calls": self.calls, "gate": self.gate, "broken": self.broken}
        python.write_text(FAKE_PYTHON.format_map(paths))
        python.chmod(0o755)
        self.environment = {"PATH": f"{python.parent}:{os.environ['PATH']}"}

    def start(self, *words: str, shell: tuple[str, ...] = ("sh",)) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*shell, str(self.root / "inv"), *words],
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, shell: tuple[str, ...] = ("sh",)) -> tuple[int, str, str]:
        with self.start(*words, shell=shell) as process:
            out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def built(self) -> int:
        """How often an environment was begun."""
        return self.calls.read_text().count("venv ") if self.calls.exists() else 0

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.root.glob(".venv.*") if path.name != ".venv.lock")

    @contextmanager
    def building(self) -> Iterator[subprocess.Popen[str]]:
        """A first run that stands in the middle of its work until the block ends."""
        self.gate.touch()
        with self.start("first") as process:
            wait_until(lambda: self.built() == 1)
            try:
                yield process
            finally:
                self.gate.unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_it_builds_once_and_then_starts_at_once(checkout: Checkout, shell: tuple[str, ...]) -> None:
    code, out, err = checkout.run("up", "two words", shell=shell)
    assert (code, out) == (0, "ran: -m labs.commands.cli up two words\n"), err
    assert "making .venv" in err
    assert checkout.run("list", shell=shell) == (0, "ran: -m labs.commands.cli list\n", "")
    assert checkout.built() == 1
    assert checkout.leftovers() == []


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_four_at_once_build_once(checkout: Checkout, shell: tuple[str, ...]) -> None:
    processes = [checkout.start(str(number), shell=shell) for number in range(4)]
    for number, process in enumerate(processes):
        with process:
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, f"ran: -m labs.commands.cli {number}\n"), err
    assert checkout.built() == 1
    assert checkout.leftovers() == []


def test_scripts_point_at_the_final_place(checkout: Checkout) -> None:
    checkout.run()
    assert (checkout.venv / "bin" / "tool").read_text() == f"#!{checkout.venv}/bin/python\n"


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_file_makes_it_anew(checkout: Checkout, changed: str) -> None:
    checkout.run()
    (checkout.root / changed).write_text("three\n")
    assert "making .venv" in checkout.run()[2]
    assert checkout.built() == 2


def test_a_moved_checkout_makes_it_anew(checkout: Checkout) -> None:
    checkout.run()
    checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    assert "making .venv" in checkout.run()[2]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.run()
    python = checkout.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert checkout.run("list")[:2] == (0, "ran: -m labs.commands.cli list\n")


def test_it_can_be_called_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "lab"
    link.symlink_to(Path("..") / checkout.root.name / "inv")
    answer = subprocess.run(
        ["sh", link, "list"], env=checkout.environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout == "ran: -m labs.commands.cli list\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_in_the_middle_it_leaves_nothing(checkout: Checkout, number: signal.Signals) -> None:
    with checkout.building() as process:
        os.killpg(process.pid, number)
        assert process.wait(timeout=30) == 4
    assert not checkout.venv.exists()
    assert checkout.leftovers() == []


def test_killed_in_the_middle_the_next_run_cleans_up(checkout: Checkout) -> None:
    with checkout.building() as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        assert not checkout.venv.exists()
        assert checkout.leftovers() != []
    assert checkout.run("list")[:2] == (0, "ran: -m labs.commands.cli list\n")
    assert checkout.leftovers() == []


def test_a_failed_build_is_an_environment_problem_and_can_be_repeated(checkout: Checkout) -> None:
    checkout.broken.touch()
    code, _, err = checkout.run()
    assert code == 3
    assert "inv: .venv could not be made\n  try: " in err
    assert checkout.leftovers() == []
    checkout.broken.unlink()
    assert checkout.run()[0] == 0


def test_the_old_environment_stays_until_the_new_one_is_complete(checkout: Checkout) -> None:
    checkout.run()
    (checkout.root / "requirements.lock").write_text("three\n")
    checkout.broken.touch()
    checkout.run()
    assert (checkout.venv / "bin" / "python").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_interrupted_while_waiting_it_leaves_the_lock_to_its_holder(checkout: Checkout, shell: tuple[str, ...]) -> None:
    with checkout.building() as first:
        with checkout.start("second", shell=shell) as second:
            assert second.stderr is not None
            assert "waiting for another" in second.stderr.readline()
            os.killpg(second.pid, signal.SIGINT)
            assert second.wait(timeout=30) == 4
        with (checkout.root / ".venv.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        checkout.gate.unlink()
        assert first.communicate(timeout=30)[0] == "ran: -m labs.commands.cli first\n"
    assert checkout.built() == 1


def test_a_lock_file_of_a_dead_run_holds_nobody_up(checkout: Checkout) -> None:
    (checkout.root / ".venv.lock").write_text("4194304\n")
    assert checkout.run("list")[0] == 0


def test_a_checkout_that_cannot_be_written(checkout: Checkout) -> None:
    (checkout.root / ".venv.lock").mkdir()  # a file that cannot be opened, even by root
    code, _, err = checkout.run()
    assert code == 3
    assert f"inv: {checkout.root} cannot be written" in err


def test_without_a_suitable_python(checkout: Checkout) -> None:
    checkout.environment["PYTHON"] = "no-such-python"
    code, _, err = checkout.run()
    assert code == 3
    assert "Python 3.11 or later is needed, and 'no-such-python' is not" in err
