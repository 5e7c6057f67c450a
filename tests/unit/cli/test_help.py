"""What `--help` says: every command has examples, and they are good."""

import re
from typing import Any

import pytest

from unit.cli.commands import PROGRAM, UsageError, every_command, parse

COMMANDS = dict(every_command())
SECRET = re.compile(r"secret|password|passwd|token|api.?key|credential|private.?key", re.IGNORECASE)


def examples(command: Any) -> list[str]:
    """The invocations of our program among a command's examples; `;`, `|` and `&&` part them."""
    text = re.sub(r"^Examples?: ", "", command.epilog or "")
    return [part.strip() for part in re.split(r"; |\| |&& ", text) if part.strip().startswith(PROGRAM)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_shows_examples_that_parse(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    shown = examples(command)
    assert shown, f"{name} has no example in its epilog"
    for line in shown:
        assert line.startswith(f"{PROGRAM} {name.split()[0]}") or name.split()[0] in line
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
