"""Answers kept, so that the same prompt to the same model with the same parameters is asked once."""

import hashlib
from collections import OrderedDict
from typing import Protocol

import orjson
from pydantic import Field

from mistudio_explain.events.explanation import Generation
from mistudio_explain.events.model import Record
from mistudio_explain.llm.provider import Call, ModelListed


class KeptAnswer(Record):
    """An answer that was accepted, and how it came about."""

    text: str = Field(description="The model's text, without the prefill.")
    generation: Generation = Field(description="The call that it came from.")
    flags: list[str] = Field(default=[], description="What the asking added, such as `resampled`.")


class AnswersCache(Protocol):
    """Where answers are kept. It decides cost, never correctness: forgetting one means one more call."""

    async def get(self, key: str) -> KeptAnswer | None:
        """The answer kept under a key."""
        ...

    async def put(self, key: str, answer: KeptAnswer, *, prompt_sha256: str, job: str) -> None:
        """Keep an answer; the prompt's hash and the job that asked are for whoever deletes a job."""
        ...


def cache_key(prompt_sha256: str, model: ModelListed, call: Call) -> str:
    """Hex sha256 of what the answer depends on: prompt, model with its digest, parameters."""
    parameters = [prompt_sha256, model.name, model.digest, call.form, call.temperature, call.seed, call.max_tokens, call.context_tokens]
    if call.features > 1:  # at most: what stood beside a feature in its call is not told apart
        parameters.append(call.features)
    return hashlib.sha256(orjson.dumps(parameters)).hexdigest()


class MemoryAnswers:
    """The `capacity` answers used last, in this process (about 2 KB each)."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._answers: OrderedDict[str, KeptAnswer] = OrderedDict()

    async def get(self, key: str) -> KeptAnswer | None:
        """The answer kept under a key."""
        if key in self._answers:
            self._answers.move_to_end(key)
        return self._answers.get(key)

    async def put(self, key: str, answer: KeptAnswer, *, prompt_sha256: str, job: str) -> None:  # noqa: ARG002
        """Keep an answer; the one unused for longest goes when there are too many."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self._capacity:
            self._answers.popitem(last=False)
