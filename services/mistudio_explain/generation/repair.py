"""How one question's answers are read: strictly; a malformed one is sent back to be repaired, once; then by rule."""

from dataclasses import dataclass, replace

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import Prompt
from mistudio_explain.generation.stage import Parsed, by_rule, parse, repair_messages
from mistudio_explain.generation.unusable import Malformed
from mistudio_explain.llm.endpoints import Choice
from mistudio_explain.llm.provider import Call, Completion

BY_MODEL = "repaired:model"


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said, to which call, and who it was."""

    choice: Choice
    call: Call
    completion: Completion


@dataclass(frozen=True, slots=True)
class Reading:
    """A usable answer, and what it was read from."""

    parsed: Parsed
    said: Said
    flags: tuple[str, ...] = ()


class Repair:
    """One question's calls and readings, in their order.

    Only a malformed answer is sent back: what is refused, cut or copied is asked for anew instead. The rule comes
    after the model because it guesses what the model knows.
    """

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._sent: tuple[Choice, Call] | None = None
        self._malformed: tuple[Said, Malformed] | None = None
        """The first malformed answer."""
        self._is_repaired = False
        """Whether the model has answered its one repair; a call that failed was none."""

    @property
    def is_due(self) -> bool:
        """Whether the next call asks for a repair."""
        return self._malformed is not None and not self._is_repaired

    def call(self, choice: Choice, call: Call) -> Call:
        """The call to send in place of `call`, which asks the question anew."""
        if self._malformed is not None and self.is_due:
            said, error = self._malformed
            call = replace(call, messages=repair_messages(self._prompt, said.completion.text, error.problem))
        self._sent = choice, call
        return call

    def read(self, completion: Completion) -> Reading:
        """Read the answer to the last call. Raises UnusableAnswer."""
        assert self._sent is not None
        said, was_repair = Said(*self._sent, completion), self.is_due
        self._is_repaired = self._is_repaired or was_repair
        try:
            return Reading(parse(self._prompt, completion.text, completion.finish_reason), said, (BY_MODEL,) if was_repair else ())
        except Malformed as error:
            if self._malformed is None:
                self._malformed = said, error
                raise
            if (reading := self._by_rule(said) or (self.last_resort() if was_repair else None)) is not None:
                return reading
            raise
        except UnusableAnswer:
            if was_repair and (reading := self.last_resort()) is not None:
                return reading
            raise

    def last_resort(self) -> Reading | None:
        """The first malformed answer read by rule; None where there is none, or the rule cannot either."""
        return None if self._malformed is None else self._by_rule(self._malformed[0])

    def _by_rule(self, said: Said) -> Reading | None:
        try:
            return Reading(by_rule(self._prompt, said.completion.text, said.completion.finish_reason), said)
        except UnusableAnswer:
            return None


def read_again(prompt: Prompt, text: str, finish_reason: str) -> Parsed:
    """Read an answer that was accepted before, by whichever way. Raises UnusableAnswer."""
    try:
        return parse(prompt, text, finish_reason)
    except Malformed:
        return by_rule(prompt, text, finish_reason)
