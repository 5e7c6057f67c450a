"""The command line as tests read it: every command, and whether an invocation would parse, without carrying it out."""

import shlex
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from mistudio_explain.cli.main import app

PROGRAM = "mistudio-explain"
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer does not export the class by its name


def every_command() -> Iterator[tuple[str, Any]]:
    """Every command, groups included, by the words that call it."""
    yield from _below(typer.main.get_command(app), ())


def _below(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if names:
        yield " ".join(names), command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _below(inner, (*names, name))


def parse(line: str) -> None:
    """Parse an invocation and do nothing. Raises UsageError for one that would be refused, ValueError for one that a shell could not read."""
    program, *words = shlex.split(line, comments=True)
    if program != PROGRAM:
        raise ValueError(f"{line!r} is no invocation of {PROGRAM}")
    _parse(typer.main.get_command(app), PROGRAM, words, None)


def _parse(command: Any, name: str | None, words: list[str], parent: Any) -> None:
    context = command.make_context(name, words, parent=parent)
    if isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        inner_name, inner, left = command.resolve_command(context, rest)
        _parse(inner, inner_name, left, context)
