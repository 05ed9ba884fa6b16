"""What a command line got wrong, said with the nearest word that would have been right."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext

from labs.errors import UsageError


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The hint of `labs.words.nearest`, which is loaded only when there is something to say."""
    from labs import words  # noqa: PLC0415 - start-up time

    return words.nearest(word, known, otherwise)


def remainder_of(argv: Sequence[str]) -> str:
    """What follows `--`, quoted so that `shlex.split` gives the same arguments back."""
    return shlex.join(argv[argv.index("--") + 1 :]) if "--" in argv else ""


def typed_names(commands: Collection) -> dict[str, str]:
    """Each command as Invoke names it, and as one types it: a noun's default command is the noun itself."""
    names = {}
    for name, aliases in commands.task_names.items():
        noun = name.rpartition(".")[0]
        names[name] = noun if noun in aliases else name
    return names


def name_optional_words(argv: Sequence[str], commands: Mapping[str, ParserContext]) -> list[str]:
    """`inv check smoke` as `inv check --scenarios=smoke`: Invoke gives no word to an argument that has a default."""
    named: list[str] = []
    command, value_follows = ParserContext(), False
    words: list[Argument] = []
    for word in argv:
        if value_follows:
            value_follows = False
        elif word.startswith("-"):
            flag = command.flags.get(word.partition("=")[0])
            value_follows = flag is not None and flag.takes_value and not flag.optional and "=" not in word
            words = [argument for argument in words if argument is not flag]
        elif words and words[0].default is None:
            words.pop(0)
        elif word in commands:
            command = commands[word]
            words = sorted(command.positional_args, key=lambda argument: argument.default is not None)
        elif words:
            named.append(f"{_flag(words.pop(0))}={word}")
            continue
        named.append(word)
    return named


def placeholder(word: Argument) -> str:
    """A command's word as help shows it: in capitals, in brackets when it may be left out."""
    name = str(word.name).upper()
    return name if word.default is None else f"[{name}]"


def explain(problem: ParseError, core: ParserContext, names: Mapping[str, str]) -> UsageError:
    """Invoke's complaint as a usage error. `names` is what `typed_names` gave."""
    message, context = str(problem), problem.context
    if unknown := re.fullmatch(r"No idea what ['\"](.*)['\"] is!", message, re.DOTALL):
        return _unknown(unknown[1], context, core, names)
    command = _typed(context, names)
    if missing := re.search(r"required positional arguments: (.*)", message):
        words = ", ".join(re.findall(r"'([^']*)'", missing[1])).upper()
        return UsageError(f"'{command}' needs {words}", hint=f"inv {command} --help")
    if valueless := re.match(r"Flag <Argument: ([\w-]+)", message):
        return UsageError(f"--{valueless[1].replace('_', '-')} needs a value", hint=_help(command))
    return UsageError(message, hint=_help(command))


def options_taken_for_words(contexts: Iterable[ParserContext]) -> Iterator[tuple[ParserContext, str]]:
    """Invoke takes an option it does not know for the word that a command still needs: those options."""
    for context in contexts:
        for word in context.positional_args:
            if isinstance(word.raw_value, str) and re.match(r"-.", word.raw_value):
                yield context, word.raw_value


def unknown_option(word: str, context: ParserContext, names: Mapping[str, str]) -> UsageError:
    """An option that the command does not have; without a command, one that `inv` itself does not have."""
    command = _typed(context, names)
    option = word.partition("=")[0]
    known = (flag for flag in {*context.flags, *context.inverse_flags} if flag.startswith("--"))
    return UsageError(f"{command or 'inv'!r} has no option '{option}'", hint=nearest(option, known, _help(command)))


def wrong_kind(problem: ValueError, argv: Sequence[str]) -> UsageError:
    """A value that is not a number, where one is needed."""
    found = re.search(r"invalid literal for int\(\) with base 10: ['\"](.*)['\"]$", str(problem), re.DOTALL)
    if found is None:
        return UsageError(str(problem))
    return UsageError(f"{_option_given(found[1], argv)} needs a whole number, not '{found[1]}'")


def _unknown(word: str, context: ParserContext | None, core: ParserContext, names: Mapping[str, str]) -> UsageError:
    if word.startswith("-"):
        return unknown_option(word, context or core, names)
    if command := _typed(context, names):
        what = f"'{command}' does not take '{word}', and it is not a command"
        otherwise = "several names are one word with commas; a command for a peer follows --"
    else:
        what, otherwise = f"There is no command '{word}'", "inv --list"
    return UsageError(what, hint=nearest(word, names.values(), otherwise))


def _typed(context: ParserContext | None, names: Mapping[str, str]) -> str:
    """The command whose words were being read, as it is typed; empty before the first command."""
    name = context.name if context is not None else None
    return names.get(name, name) if name else ""


def _option_given(value: str, argv: Sequence[str]) -> str:
    for before, word in zip(("", *argv), argv, strict=False):
        if word.startswith("-") and word.endswith(f"={value}"):
            return word.partition("=")[0]
        if word == value and before.startswith("-"):
            return before
    return "An option"


def _flag(argument: Argument) -> str:
    return f"--{str(argument.name).replace('_', '-')}"


def _help(command: str) -> str:
    return f"inv {command} --help" if command else "inv --help"
