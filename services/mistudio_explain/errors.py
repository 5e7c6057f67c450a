"""The errors that cross a boundary of this package.

Every error says what happened, where, why, and what to do, as far as each applies; the command line
prints the message alone. The class decides the exit code and, on a topic, where the record goes.
"""

import re
from typing import ClassVar

_COMMAND, _REQUEST, _END = "\ue000", "\ue001", "\ue002"  # of Unicode's private use, which no text of ours has
_EITHER = re.compile(f"{_COMMAND}([^{_COMMAND}-{_END}]*){_REQUEST}([^{_COMMAND}-{_END}]*){_END}")


def either(command: str, request: str) -> str:
    """A part of an error's message that is one for people at the command line, and another for programs that ask over HTTP.

    Both stand in the message; whoever tells the error says one of them: `str(error)` the first, `error.over_http` the second.
    """
    return f"{_COMMAND}{command}{_REQUEST}{request}{_END}"


def option(name: str, field: str | None = None) -> str:
    """An option of the command line, such as `--keep-going`, and over HTTP the field that says the same: by default its name with underscores."""
    return either(name, field or name.removeprefix("--").replace("-", "_"))


class ExplainError(Exception):
    """Root of all errors that are raised on purpose."""

    exit_code = 1
    repeatable: bool = True
    """Whether handling the same record again later may succeed."""
    quotes: bool = False
    """Whether the message may quote a text or an answer: people see it where the text itself is kept, and logs do not."""

    def __str__(self) -> str:
        return _EITHER.sub(r"\1", super().__str__())

    @property
    def over_http(self) -> str:
        """The message for whoever asked over HTTP."""
        return _EITHER.sub(r"\2", super().__str__())


class BadInput(ExplainError):
    """What a person or an upstream service handed over cannot be used; nothing was published."""

    exit_code = 2
    repeatable = False


class BadSettings(ExplainError):
    """A setting is wrong or contradicts another."""

    exit_code = 2


class Unreachable(ExplainError):
    """Something that is configured (broker, LLM endpoint, store) does not answer."""

    exit_code = 3


class BrokerLost(ExplainError):
    """The embedded broker died during a run, and with it everything that was still in flight."""


class MalformedEvent(ExplainError):
    """A record cannot be read as the event it should be."""

    repeatable = False


class UnknownFingerprint(MalformedEvent):
    """A record was written with a schema that this version does not have."""


class EvidenceError(ExplainError):
    """A feature has no text that could be explained."""

    repeatable = False


class UnusableAnswer(ExplainError):
    """A model answered, but not what it was asked for."""

    quotes = True

    kind: ClassVar[str] = "unusable"


def told(error: BaseException) -> str:
    """What a log may say of an error: its class, and its message unless that may quote a text, an answer or a secret.

    Errors of others about a value (`UnicodeDecodeError`, pydantic's) commonly quote it.
    """
    quotes = error.quotes if isinstance(error, ExplainError) else isinstance(error, ValueError | LookupError | TypeError | BaseExceptionGroup)
    return type(error).__name__ if quotes or not str(error) else f"{type(error).__name__}: {error}"
