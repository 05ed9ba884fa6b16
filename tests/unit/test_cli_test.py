"""`inv test`: the order of its steps, where it stops, and what each exit code of a child means."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs import errors
from labs.commands import test as command
from labs.commands.test import Step

EXIT = "import sys; sys.exit({})"


def step(title: str, code: int = 0) -> Step:
    return Step(title, (sys.executable, "-c", EXIT.format(code)))


def test_steps_run_in_order_and_stop_at_the_first_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(errors.CheckFailed, match="two failed"):
        command.run_steps([step("one"), step("two", 1), step("three")], tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], *lines[2:]] == ["==> one", "==> two", "==> two: FAILED (exit 1)"]
    assert lines[1].startswith("==> one: ok, ")


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (2, 4), (3, 3), (4, 2), (5, 2), (139, 1)], ids=str)
def test_pytests_exit_codes_become_ours(code: int, exit_code: int) -> None:
    error = command.pytest_step("pytest", "tests/unit").error(code)
    assert error.exit_code == exit_code
    assert "-m pytest tests/unit" in error.hint


def test_any_other_tool_that_fails_is_a_failed_check() -> None:
    assert {each.error(2).exit_code for each in command.static_steps()} == {1}


def test_a_child_that_a_signal_ended_has_the_shells_code(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert command.run_child([sys.executable, "-c", program], tmp_path) == 137


def test_a_tool_that_is_missing_is_an_environment_problem(tmp_path: Path) -> None:
    with pytest.raises(errors.EnvironmentProblem, match="no-such-tool is not installed"):
        command.run_child(["no-such-tool"], tmp_path)


@pytest.mark.parametrize("ignored", [False, True], ids=["in the foreground", "as a background job"])
def test_interrupted_it_interrupts_the_child_once_and_waits_for_its_cleanup(ignored: bool) -> None:
    child = (
        "import sys, time\n"
        "try:\n    print('working', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('clean', flush=True); sys.exit(2)\n"
    )
    parent = (
        "import signal, sys\nfrom pathlib import Path\nfrom labs.commands.signals import Stoppable\n"
        "from labs.commands.test import run_child\n"
        f"if {ignored}: signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"with Stoppable():\n    run_child([sys.executable, '-c', {child!r}], Path('/'))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert out == "clean\n"
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_interrupted_while_it_starts_a_child_it_leaves_none() -> None:
    parent = (
        "import os, signal, subprocess, sys\nfrom pathlib import Path\nfrom labs.commands.signals import Stoppable\n"
        "from labs.commands.test import run_child\n"
        "start = subprocess.Popen\n"
        "def stopped_meanwhile(*arguments, **options):\n"
        "    child = start(*arguments, **options)\n    os.kill(os.getpid(), signal.SIGTERM)\n    return child\n"
        "subprocess.Popen = stopped_meanwhile\n"
        "with Stoppable():\n    run_child(['sleep', '60'], Path('/'))\n"
    )
    # The child has this process's pipes as well, so reading them to their end waits for it.
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_the_live_run_is_one_pytest_run_on_both_products() -> None:
    argv = command.smoke_step().argv
    assert argv[1:3] == ("-m", "pytest")
    assert [argv[index + 1] for index, word in enumerate(argv) if word == "--lab"] == ["headscale", "netbird"]
    assert "scenarios/subnet-routes.scenario.yaml" in argv


def test_the_checkout_is_found() -> None:
    assert (command.checkout() / "inv").is_file()
