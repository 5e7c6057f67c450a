"""One record's way through generation: cache, slot, call, answer, and another try."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from mistudio_explain.errors import ExplainError, UnusableAnswer
from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, Generation, Prompt
from mistudio_explain.generation.repair import Repair, read_again
from mistudio_explain.generation.stage import Parsed, drafted
from mistudio_explain.llm.answers_cache import AnswersCache, KeptAnswer, cache_key
from mistudio_explain.llm.asking import NoAnswer, Sleep, ask
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed, OnText, Patience
from mistudio_explain.settings import GenerationSettings, LlmSettings

SENTENCE_TOKENS = 96  # a sentence of 60 words; more is a model that repeats itself
RESAMPLE_TEMPERATURE = 0.6
"""After an unusable answer: at temperature 0 the same call gives the same answer again."""

OnPiece = Callable[[int, str], Awaitable[None]]
"""Is told each piece of an answer as it comes, and of which try it is, from 0; a greater number begins the answer anew."""

_Question = tuple[str, tuple[str, ...], bool]
"""Prompt, route and urgency: what two requests must have in common to share an answer; an urgent one never waits behind one that is not."""


class GivenUp(ExplainError):
    """A record got no usable answer in all its tries."""

    def __init__(self, request: ExplanationRequested, cause: NoAnswer) -> None:
        subject = request.subject
        super().__init__(f"feature {subject.feature_key} of {subject.explain_job_id} got {cause}")
        self.tries = cause.tries
        self.attempts = len(cause.tries)
        self.repeatable = cause.repeatable


def call_for(prompt: Prompt, model: ModelListed, settings: LlmSettings, *, sampling: int = 0, on_text: OnText | None = None) -> Call:
    """The call of a prompt; `sampling` counts the unusable answers so far, 0 is the call as the settings have it."""
    return Call(
        messages=tuple(prompt.messages),
        form=prompt.answer,
        model=model.name,
        temperature=max(settings.temperature, RESAMPLE_TEMPERATURE) if sampling else settings.temperature,
        seed=settings.seed + sampling,
        max_tokens=min(settings.max_tokens, SENTENCE_TOKENS) if prompt.answer == "sentence" else settings.max_tokens,
        context_tokens=settings.context_tokens,
        patience=Patience(settings.first_token_timeout_s, settings.token_timeout_s, settings.deadline_s),
        on_text=on_text,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A usable answer: as it was read, and how it came about."""

    parsed: Parsed
    generation: Generation
    flags: list[str]

    def again(self, attempt: int) -> "_Found":
        """The same answer for a request that did not have to ask for it."""
        return replace(self, generation=self.generation.model_copy(update={"cached": True, "attempt": attempt}))


@dataclass(slots=True)
class Explainer:
    """Gets drafts for the requests of one worker."""

    endpoints: Endpoints
    answers: AnswersCache
    llm: LlmSettings
    generation: GenerationSettings
    rng: random.Random
    sleep: Sleep = asyncio.sleep
    _in_flight: dict[_Question, "asyncio.Future[_Found | None]"] = field(default_factory=dict, init=False)
    """What is being asked now; None in the end where that gave no answer."""

    async def draft(self, request: ExplanationRequested, *, is_urgent: bool = False, on_piece: OnPiece | None = None) -> ExplanationDrafted:
        """Get a draft for a request.

        An answer that is kept is used, also while every endpoint is away, and one that is being asked for is waited for.
        While no endpoint can serve the request it is held, without limit: cancel it to stop. An urgent request takes the
        next slot that falls free. Raises GivenUp after `generation.attempts` tries that failed by the record's own fault,
        or at once when another try cannot help.
        """
        found = await self._answer(request, is_urgent=is_urgent, on_piece=on_piece)
        return drafted(request, found.parsed, found.generation, found.flags)

    async def _answer(self, request: ExplanationRequested, *, is_urgent: bool, on_piece: OnPiece | None) -> _Found:
        question = (request.prompt.sha256, tuple(request.route), is_urgent)
        while True:
            if (kept := await self._kept(request, on_piece)) is not None:
                return kept
            # who watches the answer come asks for it: another's pieces cannot be watched
            if on_piece is not None or (asked := self._in_flight.get(question)) is None:
                break
            await asyncio.wait([asked])  # which leaves it alone when this one is cancelled
            if (found := asked.result()) is not None:
                return found.again(request.attempt)
            # the fault may have been that record's own, or it was cancelled: this one asks for itself
        answer = self._in_flight[question] = asyncio.get_running_loop().create_future()
        found = None
        try:
            found = await self._ask(request, is_urgent=is_urgent, on_piece=on_piece)
            return found
        finally:
            answer.set_result(found)
            if self._in_flight.get(question) is answer:
                del self._in_flight[question]

    async def _ask(self, request: ExplanationRequested, *, is_urgent: bool, on_piece: OnPiece | None) -> _Found:
        before = request.attempt * self.generation.attempts
        calls = count(before)
        repair = Repair(request.prompt)

        def sampled(choice: Choice, unusable: int) -> Call:
            # a redelivered request goes on where its last delivery stopped, else it would get the same unusable answers again
            on_text = None if on_piece is None else partial(on_piece, next(calls))
            sampling = before + (0 if repair.is_due else unusable)
            return repair.call(choice, call_for(request.prompt, choice.model, self.llm, sampling=sampling, on_text=on_text))

        try:
            asked = await ask(
                self.endpoints,
                request.route,
                sampled,
                repair.read,
                attempts=self.generation.attempts,
                retry_wait_s=self.generation.retry_wait_s,
                rng=self.rng,
                is_urgent=is_urgent,
                sleep=self.sleep,
            )
            reading, tries = asked.read, len(asked.tries)
        except NoAnswer as error:
            if (last := repair.last_resort()) is None:
                raise GivenUp(request, error) from error
            reading, tries = last, len(error.tries) - 1
        choice, completion = reading.said.choice, reading.said.completion
        flags = [*choice.flags, *(["resampled"] if reading.said.call.seed != self.llm.seed else []), *reading.flags]
        made = _generation(choice, completion, attempt=request.attempt + tries)
        key = cache_key(request.prompt.sha256, choice.model, call_for(request.prompt, choice.model, self.llm))
        answer = KeptAnswer(text=completion.text, generation=made, flags=flags)
        await self.answers.put(key, answer, prompt_sha256=request.prompt.sha256, job=request.subject.explain_job_id)
        return _Found(reading.parsed, made, flags)

    async def _kept(self, request: ExplanationRequested, on_piece: OnPiece | None) -> _Found | None:
        choice = self.endpoints.preferred(request.route)
        if choice is None:
            return None
        kept = await self.answers.get(cache_key(request.prompt.sha256, choice.model, call_for(request.prompt, choice.model, self.llm)))
        if kept is None:
            return None
        try:
            parsed = read_again(request.prompt, kept.text, kept.generation.finish_reason)
        except UnusableAnswer:
            return None  # kept by a version that read answers differently
        if on_piece is not None:
            await on_piece(request.attempt * self.generation.attempts, kept.text)
        return _Found(parsed, kept.generation, kept.flags).again(request.attempt)


def _generation(choice: Choice, completion: Completion, attempt: int) -> Generation:
    return Generation(
        model=choice.model.name,
        model_digest=choice.model.digest,
        endpoint=choice.endpoint.name,
        provider=choice.endpoint.kind,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        latency_s=completion.latency_s,
        finish_reason=completion.finish_reason,
        attempt=attempt,
    )
