"""The program behind `./inv` and the console script `labs`.

Exits: 0 ok, 1 a check failed, 2 usage or a bad file, 3 environment, 4 interrupted, 5 leftovers,
6 what `--fail-on` names was found. A defect ends with 3 as well: like a missing engine, it says
nothing about what was checked. `--debug` (or MESH_LABS_DEBUG=1) adds the traceback to any error.
"""

from __future__ import annotations

import inspect
import os
import re
import select
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import invoke.program
from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext

import labs
from labs.commands import namespace, usage
from labs.commands.signals import Stoppable
from labs.errors import EnvironmentProblem, Interrupted, LabsError, UsageError

# Invoke's other core options configure its own shell runner, which no command here uses.
_CORE_OPTIONS = ("complete", "help", "list", "list-depth", "list-format", "print-completion-script", "version")


class Settings(Config):
    """Invoke's defaults and nothing else: no files, no INVOKE_* variables."""

    def load_base_conf_files(self) -> None:
        pass

    def load_shell_env(self) -> None:
        self.merge()


class Program(invoke.program.Program):
    """Invoke's program with this toolkit's exit codes and error format, over a fixed set of commands."""

    def __init__(self, commands: Collection) -> None:
        super().__init__(version=labs.__version__, namespace=commands, name="mesh-labs", config_class=Settings)
        self._commands = commands

    @property
    def called_as(self) -> str:
        return _called_as(self.argv)

    def core_args(self) -> list[Argument]:
        debug = Argument(names=("debug",), kind=bool, default=False, help="Show the traceback of an error.")
        engine = Argument(names=("engine",), help="unix:///PATH, tcp://HOST:PORT, a Docker context's name, or private.")
        return [debug, engine, *(option for option in super().core_args() if option.names[0] in _CORE_OPTIONS)]

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002 - Invoke's signature
        """Run what `argv` says and end the process with its exit code. With `exit` false, end it only on failure."""
        with Stoppable():
            status = _flushed(self.status(sys.argv if argv is None else argv))
        if exit or status:
            sys.exit(status)

    def status(self, argv: Sequence[str]) -> int:
        """Run what `argv` says, report what went wrong on stderr, and return the exit code."""
        words, debug = without_debug(argv)
        try:
            words, engine = without_engine(words)
            if engine:
                _name_engine(engine)
            self._run(words)
        except Exit as end:
            if not end.message:
                return end.code
            # A message without a code is Invoke's own complaint about --list and its companions.
            status = report(UsageError(end.message), debug, _called_as(argv))
            return status if end.code == 1 else end.code
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost boundary
            if isinstance(error, BrokenPipeError) and _reader_left():
                return Interrupted.exit_code
            return report(_as_labs_error(error), debug, _called_as(argv))
        return 0

    def _run(self, argv: list[str]) -> None:
        self.create_config()
        try:
            self.parse_core(argv)
            self.parse_collection()
            self.parse_tasks()
            self.parse_cleanup()
        except ParseError as problem:
            raise usage.explain(problem, self.initial_context, usage.typed_names(self._commands)) from problem
        except ValueError as problem:
            raise usage.wrong_kind(problem, argv) from problem
        self.execute()

    def parse_tasks(self) -> None:
        """Parse the commands. An option taken for a word that a command still needs is help, or a mistake."""
        self.parser = self._make_parser()
        self.core.unparsed = usage.name_optional_words(self.core.unparsed, self.parser.contexts)
        problem = None
        contexts: Sequence[ParserContext]
        try:
            self.tasks = contexts = self.parser.parse_argv(self.core.unparsed)
            self._update_core_context(self.core[0], self.tasks.pop(0).args)
        except ParseError as error:
            problem, contexts = error, [error.context] if error.context else []
        for context, option in usage.options_taken_for_words(contexts):
            if option in ("-h", "--help"):
                self.print_task_help(str(context.name))
                raise Exit
            raise usage.unknown_option(option, context, usage.typed_names(self._commands))
        if problem:
            raise problem

    def parse_core(self, argv: list[str] | None) -> None:
        self.normalize_argv(argv)
        self.parse_core_args()
        if self.args.version.value:
            self.print_version()
            raise Exit
        if shell := self.args["print-completion-script"].value:
            from invoke.completion.complete import print_completion_script  # noqa: PLC0415 - rarely needed

            print_completion_script(shell=shell, names=["inv", "labs"])
            raise Exit

    def parse_core_args(self) -> None:
        super().parse_core_args()
        # Invoke joins what follows `--` with spaces and so loses where one argument ended.
        self.core.remainder = usage.remainder_of(self.argv)

    def no_tasks_given(self) -> None:
        self.list_tasks()
        raise Exit

    def list_flat(self) -> None:
        """The commands as they are typed: a noun's default command is the noun itself."""
        pairs = self._make_pairs(self.scoped_collection)
        self.display_with_columns(
            pairs=[
                (re.sub(r"^(\S+)\.\S+ \(\1\)$", r"\1", name), (text or "").removesuffix(" Example:"))
                for name, text in pairs
            ]
        )

    def print_task_help(self, name: str) -> None:
        context = self.parser.contexts[name]
        words = "".join(f" {usage.placeholder(word)}" for word in context.positional_args)
        print(f"Usage: {self.binary} {usage.typed_names(self._commands).get(name, name)}{words} [--options]\n")
        text = as_typed(inspect.getdoc(self.collection[name]) or "", self.called_as)
        print(textwrap.indent(text, self.leading_indent) + "\n")
        if options := context.help_tuples():
            print("Options:\n")
            self.print_columns(options)


def without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether errors show their traceback: parsing errors do as well."""
    end = argv.index("--") if "--" in argv else len(argv)
    words = [word for word in argv[:end] if word != "--debug"]
    asked = len(words) < end or os.environ.get("MESH_LABS_DEBUG", "") not in ("", "0")
    return [*words, *argv[end:]], asked


def without_engine(argv: Sequence[str]) -> tuple[list[str], str]:
    """The arguments without `--engine NAME`, wherever it stands before `--`, and NAME; the last one counts."""
    end = argv.index("--") if "--" in argv else len(argv)
    words: list[str] = []
    engine = ""
    given = iter(argv[:end])
    for word in given:
        if word.partition("=")[0] != "--engine":
            words.append(word)
            continue
        engine = word.partition("=")[2] if "=" in word else next(given, "")
        if not engine:
            raise UsageError("--engine needs a value", hint="unix:///PATH, a Docker context's name, or private")
    return [*words, *argv[end:]], engine


def _name_engine(engine: str) -> None:
    """Make it the engine of this process and of every test run that it starts."""
    from labs.engine.select import NAMED  # noqa: PLC0415 - start-up time

    os.environ[NAMED] = engine


def as_typed(text: str, program: str) -> str:
    """Text that speaks of `inv COMMAND`, for whoever has typed `labs`."""
    return text if program == "inv" else re.sub(r"(?<![\w./])inv (?=[a-z])", f"{program} ", text)


def _called_as(argv: Sequence[str]) -> str:
    return "labs" if argv and Path(argv[0]).name == "labs" else "inv"


def report(error: LabsError, debug: bool, program: str = "inv") -> int:
    """Print an error on stderr, in colour on a terminal, and return its exit code. Call it while handling it."""
    what, *details = as_typed(str(error), program).splitlines()
    details += getattr(error, "__notes__", [])
    if _coloured():
        what = f"\033[1;31m{what}\033[0m"
        details = [re.sub(r"^(  \w+:)", "\033[2m\\1\033[0m", line) for line in details]
    # stderr may be gone with its terminal, and then there is nobody left to tell.
    try:
        if debug:
            traceback.print_exc()
        print(what, *details, sep="\n", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    return error.exit_code


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _as_labs_error(error: BaseException) -> LabsError:
    if isinstance(error, LabsError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("Interrupted")
    return _refused(error) if isinstance(error, OSError) else _defect(error)


def _refused(error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"The system refused: {error.strerror or error}",
        where=str(error.filename or ""),
        hint="--debug shows where this came from",
    )


def _defect(error: BaseException) -> EnvironmentProblem:
    frames = traceback.extract_tb(error.__traceback__)
    home = str(Path(labs.__file__).parent)
    ours = [frame for frame in frames if frame.filename.startswith(home)] or list(frames)
    where = f"{ours[-1].filename}:{ours[-1].lineno}" if ours else ""
    return EnvironmentProblem(
        "This is a defect in mesh-labs, not in your setup",
        where=where,
        why=f"{type(error).__name__}: {error}",
        hint="run it again with --debug and report the traceback",
    )


def _reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after `| head`."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        left = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False
    if left:
        _discard(sys.stdout)
    return left


def _flushed(status: int) -> int:
    """Write out what is left. A reader that left after the work was done changes nothing about its outcome."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        return status or report(_refused(error), debug=False)
    return status


def _discard(stream: Any) -> None:
    """Send the rest of a broken stream nowhere: the interpreter flushes it once more on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def main() -> None:
    """The entry point of `labs` and of `python -m labs.commands.cli`."""
    Program(namespace).run()


if __name__ == "__main__":
    main()
