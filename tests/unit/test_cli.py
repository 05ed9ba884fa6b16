"""The program: exit codes, the one error format, and what follows `--`. Signals are in test_cli_signals.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from labs import errors
from labs.commands import namespace
from labs.commands.cli import Program
from labs.commands.common import remainder
from labs.engine.select import NAMED

CLI = [sys.executable, "-P", "-m", "labs.commands.cli"]


@task(positional=["topology"])
def up(_: Context, topology: str, name: str = "", peers: int = 2, publish: bool = False) -> None:
    """Start a lab."""
    sys.stdout.write(f"{topology} {name} {peers} {publish}\n")


@task(name="exec")
def execute(context: Context, peer: str) -> None:
    """Run a command on a peer."""
    sys.stdout.write(f"{peer} {remainder(context)}\n")


@task(default=True)
def show(_: Context) -> None:
    """List images."""


@task
def build(_: Context) -> None:
    """Build images."""


@task(positional=["peer", "scenarios"])
def check(_: Context, peer: str, scenarios: str = "all", labs: str = "both", keep: bool = False) -> None:
    """Run scenarios."""
    sys.stdout.write(f"{peer} {scenarios} {labs} {keep}\n")


def program(*more: Callable[..., object]) -> Program:
    root = Collection(up, execute, check)
    root.add_collection(Collection("images", show, build))
    for function in more:
        root.add_task(task(function), name="fail")
    return Program(root)


def failing(error: BaseException) -> Program:
    def fail(_: Context) -> None:
        """Fail."""
        raise error

    return program(fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CheckFailed("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.FileProblem("x"), 2),
        (errors.LabConflict("x"), 2),
        (errors.EngineUnavailable("x"), 3),
        (errors.ImageProblem("x"), 3),
        (errors.Interrupted("x"), 4),
        (errors.Leftovers("x"), 5),
        (KeyboardInterrupt(), 4),
        (Exit(code=6), 6),
        (Exit(), 0),
        (Exit("what was looked for was found", code=6), 6),
        (KeyError("x"), 3),
        (FileNotFoundError(2, "No such file", "/x"), 3),
        (BrokenPipeError(32, "Broken pipe"), 3),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert failing(error).status(["inv", "fail"]) == code


def test_every_error_class_has_one_of_the_documented_codes() -> None:
    def branch(kind: type[errors.LabsError]) -> list[type[errors.LabsError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in branch(child))]

    assert {kind.exit_code for kind in branch(errors.LabsError)} == {1, 2, 3, 4, 5, 6}


def test_an_error_says_what_where_why_and_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.EngineProblem("No", where="there", why="because", hint="this")
    error.add_note("  also: that")
    failing(error).status(["inv", "fail"])
    assert capsys.readouterr() == ("", "No\n  where: there\n  why: because\n  try: this\n  also: that\n")


def test_a_defect_is_called_one_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyError("x")).status(["inv", "fail"])
    what, where, *rest = capsys.readouterr().err.splitlines()
    assert what == "This is a defect in mesh-labs, not in your setup"
    assert where.startswith("  where: ")
    assert rest == ["  why: KeyError: 'x'", "  try: run it again with --debug and report the traceback"]


@pytest.mark.parametrize(
    "argv", [["inv", "--debug", "fail"], ["inv", "fail", "--debug"], ["inv", "exec", "--debug", "peer", "fail"]]
)
def test_debug_adds_the_traceback(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(errors.NotFound("No")).status(argv) == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):")
    assert error.endswith("\nNo\n")


def test_the_variable_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MESH_LABS_DEBUG", "1")
    failing(errors.NotFound("No")).status(["inv", "fail"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["--engine private up x", "up x --engine private", "up --engine=private x", "--engine a up x --engine private"],
)
def test_an_engine_may_be_named_anywhere(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(NAMED, "before")
    assert program().status(["inv", *words.split()]) == 0
    assert capsys.readouterr().out == "x  2 False\n"
    assert os.environ[NAMED] == "private"


def test_an_engine_after_the_dashes_is_the_peers_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(NAMED, "before")
    assert program().status(["inv", "exec", "x", "--", "--engine", "y"]) == 0
    assert capsys.readouterr().out == "x ['--engine', 'y']\n"
    assert os.environ[NAMED] == "before"


def test_the_toolkit_stops_no_engine_but_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(NAMED, "unix:///other.sock")
    for command in ("start", "stop", "status", "env"):
        assert Program(namespace).status(["inv", f"engine.{command}"]) == 2
        assert "neither starts nor stops the engine unix:///other.sock" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    failing(errors.UsageError("No", hint="yes")).status(["inv", "fail"])
    assert terminal.getvalue() == "\033[1;31mNo\033[0m\n\033[2m  try:\033[0m yes\n"
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    failing(errors.UsageError("No", hint="yes")).status(["inv", "fail"])
    assert terminal.getvalue() == "No\n  try: yes\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("upp", "There is no command 'upp'\n  try: did you mean up?\n"),
        ("image", "There is no command 'image'\n  try: did you mean images?\n"),
        ("images.biuld", "There is no command 'images.biuld'\n  try: did you mean images.build?\n"),
        ("--lst", "'inv' has no option '--lst'\n  try: did you mean --list?\n"),
        ("up x --naem y", "'up' has no option '--naem'\n  try: did you mean --name?\n"),
        ("up x --naem=y", "'up' has no option '--naem'\n  try: did you mean --name?\n"),
        ("up --naem y x", "'up' has no option '--naem'\n  try: did you mean --name?\n"),
        ("up --publsh", "'up' has no option '--publsh'\n  try: did you mean --publish?\n"),
        ("up", "'up' needs TOPOLOGY\n  try: inv up --help\n"),
        ("up x --name", "--name needs a value\n  try: inv up --help\n"),
        ("up x --engine", "--engine needs a value\n"),
        ("up x --engine=", "--engine needs a value\n"),
        ("up x --peers two", "--peers needs a whole number, not 'two'\n"),
        ("up x --peers=two", "--peers needs a whole number, not 'two'\n"),
        ("images --wrong", "'images' has no option '--wrong'\n  try: inv images --help\n"),
        (
            "up x y",
            "'up' does not take 'y', and it is not a command\n  try: one of: check, exec, images, images.build, up\n",
        ),
        ("--help upp", "There is no command 'upp'\n  try: did you mean up?\n"),
        ("-F", "--list-format needs a value\n  try: inv --help\n"),
        ("--list-depth=x", "--list-depth needs a whole number, not 'x'\n"),
        ("up x -p two", "-p needs a whole number, not 'two'\n"),
        ("--list nothing", "Sub-collection 'nothing' not found!\n"),
    ],
)
def test_a_wrong_word_exits_2_with_the_nearest_right_one(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program().status(["inv", *words.split()]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(message)


def test_what_follows_the_dashes_keeps_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["inv", "exec", "laptop", "--", "sh", "-c", "echo 'a  b'; --debug", ""]
    assert program().status(argv) == 0
    assert capsys.readouterr().out == f"laptop {argv[4:]}\n"


def test_without_dashes_nothing_follows(capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(["inv", "exec", "laptop"]) == 0
    assert capsys.readouterr().out == "laptop []\n"


def test_debug_after_the_dashes_is_the_peers_word(capsys: pytest.CaptureFixture[str]) -> None:
    program().status(["inv", "exec", "--", "--debug"])
    assert "Traceback" not in capsys.readouterr().err


def test_options_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(["inv", "up", "--peers", "3", "--publish", "x", "--name=n"]) == 0
    assert capsys.readouterr().out == "x n 3 True\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("p", "p all both False"),
        ("p smoke", "p smoke both False"),
        ("--labs netbird p smoke", "p smoke netbird False"),
        ("p --labs netbird smoke --keep", "p smoke netbird True"),
        ("p --labs=up --keep smoke", "p smoke up True"),
        ("p --scenarios smoke", "p smoke both False"),
        ("--peer p smoke", "p smoke both False"),
        ("up up y", "up all both False\ny  2 False"),
        ("p smoke up x", "p smoke both False\nx  2 False"),
    ],
)
def test_a_word_may_have_a_default(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(["inv", "check", *words.split()]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_word_too_many_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(["inv", "check", "p", "smoke", "more"]) == 2
    assert capsys.readouterr().err.startswith("'check' does not take 'more', and it is not a command\n")


def test_help_shows_which_words_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    program().status(["inv", "check", "--help"])
    assert capsys.readouterr().out.startswith("Usage: inv check PEER [SCENARIOS] [--options]\n")


@pytest.mark.parametrize("argv", [["inv"], ["inv", "--list"]])
def test_no_command_prints_the_list(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(argv) == 0
    lines = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == ["check", "exec", "up", "images.build", "images"]


def test_help_shows_the_command_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program().status(["labs", "up", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: labs up TOPOLOGY [--options]\n\n  Start a lab.\n")
    assert program().status(["inv", "up", "-h", "more"]) == 0
    assert capsys.readouterr().out.startswith("Usage: inv up TOPOLOGY [--options]\n")
    assert program().status(["inv", "--help", "images"]) == 0
    assert capsys.readouterr().out.startswith("Usage: inv images [--options]\n\n  List images.\n")


@pytest.mark.parametrize("name", ["inv", "labs"])
def test_hints_name_the_program_that_was_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.EnvironmentProblem("No", why="inventory: ./inv test", hint="inv doctor shows it, or `inv down x`")
    failing(error).status([f"/usr/bin/{name}", "fail"])
    said = f"No\n  why: inventory: ./inv test\n  try: {name} doctor shows it, or `{name} down x`\n"
    assert capsys.readouterr().err == said
    assert Program(namespace).status([name, "down", "--help"]) == 0
    assert f"\n      {name} down " in capsys.readouterr().out


def test_invokes_variables_and_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "invoke.json").write_text("{broken")
    (tmp_path / ".invoke.json").write_text("{broken")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("INVOKE_RUN_ECHO", "1")
    assert program().status(["inv", "exec", "x"]) == 0


def run(
    *words: str, stdout: int = subprocess.PIPE, cwd: str = "/", unbuffered: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(
        [*CLI, *words], stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment, check=False
    )


def test_it_runs_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "labs.py").write_text("raise SystemExit('the wrong labs')")
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')")
    answer = run("--version", cwd=str(tmp_path))
    assert answer.returncode == 0
    assert answer.stdout.startswith("mesh-labs ")
    assert answer.stderr == ""


@pytest.mark.parametrize(("unbuffered", "code"), [("", 0), ("1", 4)], ids=["at the end", "in the middle"])
def test_a_reader_that_leaves_ends_it_quietly(unbuffered: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    answer = run("--list", stdout=write, unbuffered=unbuffered)
    os.close(write)
    assert (answer.returncode, answer.stderr) == (code, "")


def test_output_that_cannot_be_written_is_an_environment_problem() -> None:
    with Path("/dev/full").open("w") as full:
        answer = run("--list", stdout=full.fileno())
    assert answer.returncode == 3
    assert answer.stderr.startswith("The system refused: No space left on device\n")


def test_a_command_of_the_real_namespace_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert Program(namespace).status(["labs", "test", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: labs test [--options]")
