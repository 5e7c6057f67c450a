"""What `--help` says: every command has examples, and they are good."""

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from mistudio_explain.cli.main import app
from unit.cli.commands import PROGRAM, UsageError, every_command, parse

COMMANDS = dict(every_command())
SECRET = re.compile(r"secret|password|passwd|token(?!s)|api.?key|credential|private.?key", re.IGNORECASE)


def examples(command: Any) -> list[str]:
    """The invocations of our program in a command's examples: a line each, in which `|` and `&&` part what the shell would."""
    lines = [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]
    return [part.strip() for line in lines for part in re.split(r" \| | && ", line) if part.strip().startswith(PROGRAM)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_shows_examples_that_parse(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    shown = examples(command)
    assert shown, f"{name} has no example in its epilog"
    assert any(line.startswith(f"{PROGRAM} {name}") for line in shown)
    for line in shown:
        parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_says_what_it_is(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("line", [f"{PROGRAM} runn x", f"{PROGRAM} run --no-such-option", f"{PROGRAM} dlq lst", f"{PROGRAM} serve"])
def test_an_example_that_is_wrong_would_be_noticed(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_takes_a_secret(name: str) -> None:
    spelled = [each for parameter in COMMANDS[name].params for each in (*parameter.opts, *parameter.secondary_opts)]
    assert [each for each in spelled if SECRET.search(each)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_stand_whole_on_lines_of_their_own_in_a_narrow_terminal(name: str) -> None:
    shown = CliRunner(env={"COLUMNS": "60"}).invoke(app, [*name.split(), "--help"]).output.splitlines()
    lines = [line.strip() for line in (COMMANDS[name].epilog or "").splitlines() if line.startswith("  ")]
    assert [line for line in lines if line not in map(str.strip, shown)] == []
