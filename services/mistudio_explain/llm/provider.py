"""What a provider of models is: one call in, one completion out, and which models it has."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.capacity import MemoryNeed

AnswerForm = Literal["fields", "sentence", "list"]
OnText = Callable[[str], Awaitable[None]]

ANSWER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("label", "pattern", "significance", "implications")},
    "required": ["label", "pattern", "significance", "implications"],
    "additionalProperties": False,
}
"""JSON Schema of an answer in the form `fields`, in the subset that every provider's structured output takes."""


def answers_schema(count: int, *, is_counted: bool = True) -> dict[str, Any]:
    """JSON Schema of the answers to `count` features that share a call, each with its feature's number, from 1.

    `is_counted` says in it how many there must be, which a small model needs and not every provider takes.
    """
    entry = {**ANSWER_SCHEMA, "properties": {"number": {"type": "integer"}, **ANSWER_SCHEMA["properties"]}, "required": ["number", *ANSWER_SCHEMA["required"]]}
    bounds = {"minItems": count, "maxItems": count} if is_counted else {}
    answers = {"type": "array", "items": entry, **bounds}
    return {"type": "object", "properties": {"answers": answers}, "required": ["answers"], "additionalProperties": False}


SENTENCE_GRAMMAR = r"""root ::= ( [^.!?\n<>] | "." [0-9A-Za-z] )+ "."
"""
"""GBNF of an answer in the form `sentence`: one line, one full stop at its end; `max_tokens` bounds its length."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What an answer in the form `list` holds: so many whole numbers, each from 0 to `greatest`, which has one digit."""

    count: int
    greatest: int

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema, for servers that take one that is no object."""
        return {"type": "array", "items": {"enum": list(range(self.greatest + 1))}, "minItems": self.count, "maxItems": self.count}

    @property
    def grammar(self) -> str:
        """GBNF, for llama.cpp."""
        return 'root ::= "[" ' + ' ", " '.join(["number"] * self.count) + f' "]"\nnumber ::= [0-{self.greatest}]\n'


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, seconds."""

    first_token_s: float
    token_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model, the same for every provider.

    A final assistant message is a prefill that the answer continues. `context_tokens` never changes between calls of
    one service: Ollama reloads a model when it does.
    """

    messages: tuple[Message, ...]
    form: AnswerForm
    model: str
    temperature: float
    seed: int
    max_tokens: int
    context_tokens: int
    patience: Patience
    on_text: OnText | None = None
    numbers: Numbers | None = None
    """What the form `list` holds; None in the other forms."""
    features: int = 1
    """How many features the form `fields` is about; several have one answer each in `answers_schema`."""

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON Schema of the answer; None in the forms that are no object."""
        if self.form != "fields":
            return None
        return ANSWER_SCHEMA if self.features == 1 else answers_schema(self.features)

    @property
    def prefill(self) -> str:
        """The beginning of the answer that the prompt already gives; empty when it gives none."""
        last = self.messages[-1]
        return last.content if last.role == "assistant" else ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's whole answer, without the prefill; a count that the server did not send is None."""

    text: str
    finish_reason: str
    """`stop`: the model ended by itself. `length`: cut. `refusal`: declined. `content_filter`: cut by the provider.
    `tool_calls`: it called a tool that nobody offered. Anything else is the server's own word, and no end."""
    tokens_in: int | None
    tokens_out: int | None
    latency_s: float
    first_text_s: float | None
    cached_tokens: int | None = None
    """Those of `tokens_in` that the server read from its prompt cache."""


@dataclass(frozen=True, slots=True)
class ModelListed:
    """A model that an endpoint has; the digest, and the size of its file, where the server tells."""

    name: str
    digest: str | None = None
    file_bytes: int | None = None
    context_tokens: int | None = None
    """The longest prompt and answer together, where the server tells."""


class Provider(Protocol):
    """A client of one LLM server."""

    async def complete(self, call: Call) -> Completion:
        """Answer a call. Raises a CallFailure. Cancelling it closes the connection, so that the server stops generating."""
        ...

    async def models(self) -> list[ModelListed]:
        """The models that can be called, in the server's order. Raises a CallFailure."""
        ...

    async def close(self) -> None:
        """Release connections and whatever was started."""
        ...


@runtime_checkable
class HoldsModels(Protocol):
    """A client of a server that loads and unloads models as calls come, and tells what they take."""

    async def loaded(self) -> dict[str, int]:
        """Models in memory, and the bytes that each takes. Raises a CallFailure."""
        ...

    async def need(self, model: ModelListed, tokens: int) -> MemoryNeed | None:
        """What a model will take with so many tokens of context in all slots together; None where nothing is known. Raises a CallFailure."""
        ...

    async def unload(self, model: str) -> None:
        """Free a model's memory, and return when it is free; nothing where it is not loaded. Raises a CallFailure."""
        ...
