"""The errors that cross a boundary of this package.

Every error says what happened, where, why, and what to do, as far as each applies; the command line
prints the message alone. The class decides the exit code and, on a topic, where the record goes.
"""

from typing import ClassVar


class ExplainError(Exception):
    """Root of all errors that are raised on purpose."""

    exit_code = 1
    repeatable: bool = True
    """Whether handling the same record again later may succeed."""


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

    kind: ClassVar[str] = "unusable"
