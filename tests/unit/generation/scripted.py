"""Models that say what a test has written, and an explainer that asks them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested
from mistudio_explain.generation.explainer import Explainer, GivenUp
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed
from mistudio_explain.settings import GenerationSettings, LlmSettings

Said = str | Exception | Completion


class Model:
    """A provider that says its lines in order, then the last one for ever; a canary call is answered from `canary`."""

    def __init__(self, *lines: Said, canary: Callable[[], Said] = lambda: "yes") -> None:
        self.lines = list(lines)
        self.canary = canary
        self.calls: list[Call] = []

    async def complete(self, call: Call) -> Completion:
        if call.messages[0].content == "Say yes.":
            said = self.canary()
        else:
            self.calls.append(call)
            said = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Completion):
            return said
        return Completion(said, "stop", 10, 5, 1.5, 0.5)

    async def models(self) -> list[ModelListed]:
        return [ModelListed("m", "d1")]

    async def close(self) -> None: ...


class World:
    """An explainer with one scripted model; no time passes in its sleeps, which are noted."""

    def __init__(self, model: Model, *, attempts: int = 3, features_per_call: int = 1) -> None:
        self.model = model
        self.waits: list[float] = []
        self.answers = MemoryAnswers()
        self.rng = random.Random(7)
        self.endpoints = Endpoints([Endpoint("e", "ollama", "http://e", 2, model, models=(ModelListed("m", "d1"),))], rng=self.rng, sleep=self._sleep)
        settings = GenerationSettings(attempts=attempts, retry_wait_s=2.0, features_per_call=features_per_call)
        self.explainer = Explainer(self.endpoints, self.answers, LlmSettings(), settings, self.rng, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def explain(self, request: ExplanationRequested, **llm: float) -> ExplanationDrafted:
        return await replace(self.explainer, llm=LlmSettings(**llm)).draft(request)

    async def explain_as_is(self, request: ExplanationRequested) -> ExplanationDrafted:
        return await self.explainer.draft(request)

    async def failing(self, request: ExplanationRequested) -> GivenUp:
        with pytest.raises(GivenUp) as caught:
            await self.explainer.draft(request)
        return caught.value


class Paused(Model):
    """Answers only when it is let to; counts the calls that wait."""

    def __init__(self, *lines: Said) -> None:
        super().__init__(*lines)
        self.let = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, call: Call) -> Completion:
        self.asked.set()
        await self.let.wait()
        return await super().complete(call)


class Speaking(Model):
    """Gives its answers word by word."""

    async def complete(self, call: Call) -> Completion:
        completion = await super().complete(call)
        if call.on_text is not None:
            for number, word in enumerate(completion.text.split()):
                await call.on_text(f" {word}" if number else word)
        return completion
