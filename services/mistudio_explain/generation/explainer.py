"""One record's way through generation: cache, slot, call, answer, and another try."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING

from mistudio_explain.context.tokens import estimated_tokens
from mistudio_explain.errors import ExplainError, UnusableAnswer
from mistudio_explain.events.explanation import Candidate, ExplanationDrafted, ExplanationRequested, Generation, Prompt
from mistudio_explain.generation.adapting import Shorten, for_delivery, substitute_flags
from mistudio_explain.generation.budget import Budget
from mistudio_explain.generation.gathering import Gathering, Taken
from mistudio_explain.generation.repair import Reading, Repair, read_again
from mistudio_explain.generation.several import common, is_shareable
from mistudio_explain.generation.sharing import call_for_several, read_shared
from mistudio_explain.generation.stage import Parsed, drafted
from mistudio_explain.llm.answers_cache import AnswersCache, KeptAnswer, cache_key
from mistudio_explain.llm.asking import NoAnswer, Sleep, ask
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import ContextTooLong
from mistudio_explain.llm.provider import Call, Completion, ModelListed, OnText, Patience
from mistudio_explain.observability import tracing
from mistudio_explain.observability.metrics import DURATION, MODEL_REQUESTS
from mistudio_explain.settings import GenerationSettings, LlmSettings

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

SENTENCE_TOKENS = 96  # a sentence of 60 words; more is a model that repeats itself
ANSWER_TOKENS = 150  # four sentences; what is planned for one of several in the context, not the most that it may have
RESAMPLE_TEMPERATURE = 0.6
"""After an unusable answer, and for further candidates: at temperature 0 the same call gives the same answer again."""
CANDIDATE_STEP = 1000  # between the seeds of candidates, so that none meets another one's further tries

OnPiece = Callable[[int, str], Awaitable[None]]
"""Is told each piece of an answer as it comes, and of which try it is, from 0; a greater number begins the answer anew."""

_Question = tuple[str, tuple[str, ...], bool, int]
"""Prompt, route, urgency, which candidate: what two requests must have in common to share an answer; an urgent one never waits behind one that is not."""


class GivenUp(ExplainError):
    """A record got no usable answer in all its tries."""

    quotes = True

    def __init__(self, request: ExplanationRequested, cause: NoAnswer) -> None:
        subject = request.subject
        super().__init__(f"feature {subject.feature_key} of {subject.explain_job_id} got {cause}")
        self.tries = cause.tries
        self.attempts = len(cause.tries)
        self.repeatable = cause.repeatable and request.request.priority != "interactive"  # nobody watches for minutes until it is redelivered

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt did not fit into the model's context."""
        return self.tries[-1].kind == ContextTooLong.kind


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
    asked_in: "SpanContext | None" = None
    """The trace in which it was asked for; None where there is none, or it was kept."""

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
    budget: Budget | None = None
    """Answers for calls to clouds; without one none is sent there."""
    shorten: Shorten = lambda _: None
    """Makes a prompt that was too long for the model shorter; None where it cannot."""
    _in_flight: dict[_Question, "asyncio.Future[_Found | None]"] = field(default_factory=dict, init=False)
    """What is being asked now; None in the end where that gave no answer."""
    _gathering: Gathering[ExplanationRequested, _Found] = field(init=False)

    def __post_init__(self) -> None:
        self._gathering = Gathering(self.generation.features_per_call, self._fit_together)

    async def draft(self, request: ExplanationRequested, *, is_urgent: bool = False, on_piece: OnPiece | None = None) -> ExplanationDrafted:
        """Get a draft for a request.

        An answer that is kept is used, also while every endpoint is away, and one that is being asked for is waited for.
        While no endpoint can serve the request it is held, without limit: cancel it to stop. An urgent request takes the
        next slot that falls free. A prompt that is too long for the model is shortened and asked once more. Raises GivenUp
        after `generation.attempts` tries that failed by the record's own fault, or at once when another try cannot help.
        """
        asked = for_delivery(request)
        try:
            draft = await self._drafted(asked, is_urgent=is_urgent, on_piece=on_piece)
        except GivenUp as given_up:
            shorter = self.shorten(asked) if given_up.is_too_long else None
            if shorter is None:
                raise
            draft = await self._drafted(shorter, is_urgent=is_urgent, on_piece=on_piece)
        return draft.model_copy(update={"flags": list(dict.fromkeys([*draft.flags, *substitute_flags(request, draft.generation.model)]))})

    async def _drafted(self, request: ExplanationRequested, *, is_urgent: bool, on_piece: OnPiece | None) -> ExplanationDrafted:
        wanted = request.request.candidates or self.generation.candidates
        watched = [on_piece, *[None] * (wanted - 1)]  # a person watches the first one come
        asked = [self._answer(request, number, is_urgent=is_urgent, on_piece=each) for number, each in enumerate(watched)]
        if wanted == 1:
            found = await asked[0]
            tracing.link_to([found.asked_in])
            return drafted(request, found.parsed, found.generation, found.flags)
        results = await asyncio.gather(*asked, return_exceptions=True)
        usable = [result for result in results if isinstance(result, _Found)]
        if failed := [result for result in results if isinstance(result, BaseException) and not (usable and isinstance(result, GivenUp))]:
            raise failed[0]
        tracing.link_to(each.asked_in for each in usable)
        draft = drafted(request, usable[0].parsed, usable[0].generation, usable[0].flags)
        candidates = [Candidate(answer=each.parsed.answer, generation=each.generation, flags=[*each.flags, *each.parsed.flags]) for each in usable]
        return draft.model_copy(update={"candidates": candidates})

    async def _answer(self, request: ExplanationRequested, candidate: int, *, is_urgent: bool, on_piece: OnPiece | None) -> _Found:
        question = (request.prompt.sha256, tuple(request.route), is_urgent, candidate)
        while True:
            with self._gathering.arriving():
                kept = await self._kept(request, candidate, on_piece)
            if kept is not None:
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
            if on_piece is None and self._may_share(request):
                kind = (tuple(request.route), common(request.prompt), is_urgent, candidate)
                found = await self._gathering.answer(kind, request, partial(self._ask, request.route, candidate, is_urgent=is_urgent))
            if found is None:
                (found,) = await self._ask(
                    request.route, candidate, lambda: [request], is_urgent=is_urgent, on_piece=on_piece, paid=request if request.cloud else None
                )
            assert found is not None
            return found
        finally:
            answer.set_result(found)
            if self._in_flight.get(question) is answer:
                del self._in_flight[question]

    def _may_share(self, request: ExplanationRequested) -> bool:
        return self.generation.features_per_call > 1 and request.attempt == 0 and request.pass_number == 1 and is_shareable(request.prompt)

    def _fit_together(self, requests: Sequence[ExplanationRequested]) -> bool:
        """Whether prompt and answers of all have room in the context that models are loaded with."""
        shown = [*(content for _, content in common(requests[0].prompt)), *(request.prompt.messages[-1].content for request in requests)]
        answers = len(requests) * min(ANSWER_TOKENS, self.llm.max_tokens)
        return sum(map(estimated_tokens, shown)) + answers <= self.llm.context_tokens

    async def _ask(
        self,
        route: Sequence[str],
        candidate: int,
        taken: Taken[ExplanationRequested],
        *,
        is_urgent: bool,
        on_piece: OnPiece | None = None,
        paid: ExplanationRequested | None = None,
    ) -> list[_Found | None]:
        """Ask for all who share the call once there is a slot for it.

        A call to a cloud is `paid` by one feature, which shares it with none. Alone an answer is asked for until it is
        usable, or GivenUp is raised; of several those who got none must ask by themselves.
        """
        pieces = count()
        sent: list[tuple[Choice, Call]] = []
        repair = cache(lambda: Repair(taken()[0].prompt))

        def call(choice: Choice, unusable: int) -> Call:
            first, *others = taken()
            # a redelivered request goes on where its last delivery stopped, else it would get the same unusable answers again
            before = candidate * CANDIDATE_STEP + first.attempt * self.generation.attempts
            if others:
                one = call_for(first.prompt, choice.model, self.llm, sampling=before + unusable)
                sent.append((choice, call_for_several(one, [request.prompt for request in taken()])))
                return sent[-1][1]
            on_text = None if on_piece is None else partial(on_piece, first.attempt * self.generation.attempts + next(pieces))
            sampling = before + (0 if repair().is_due else unusable)
            return repair().call(choice, call_for(first.prompt, choice.model, self.llm, sampling=sampling, on_text=on_text))

        def read(completion: Completion) -> list[Reading | None]:
            return [repair().read(completion)] if len(taken()) == 1 else read_shared(taken(), *sent[-1], completion)

        try:
            asked = await ask(
                self.endpoints,
                route,
                call,
                read,
                attempts=self.generation.attempts,
                retry_wait_s=self.generation.retry_wait_s,
                rng=self.rng,
                is_urgent=is_urgent,
                sleep=self.sleep,
                complete=partial(self.budget.complete, paid.subject) if self.budget is not None and paid is not None else None,
            )
            readings, tries = asked.read, len(asked.tries)
            if any(readings):
                _count(asked.choice, asked.completion)
        except NoAnswer as error:
            first, *others = taken()
            if others:
                return [None] * (1 + len(others))
            if (last := repair().last_resort()) is None:
                raise GivenUp(first, error) from error
            readings, tries = [last], len(error.tries) - 1
            _count(last.said.choice, last.said.completion)
        return [None if reading is None else await self._found(request, candidate, reading, tries) for request, reading in zip(taken(), readings, strict=True)]

    async def _found(self, request: ExplanationRequested, candidate: int, reading: Reading, tries: int) -> _Found:
        """An answer as it is used; it is kept before anything is made of it."""
        choice, call, completion = reading.said.choice, reading.said.call, reading.said.completion
        flags = [*(["resampled"] if call.seed != self.llm.seed + candidate * CANDIDATE_STEP else []), *reading.flags]
        cost_usd = self.budget.cost_usd(choice, call, completion) if self.budget is not None else None
        made = _generation(choice, completion, request.attempt + tries, cost_usd).model_copy(update={"features": call.features})
        answer = KeptAnswer(text=completion.text, generation=made, flags=flags)
        await self.answers.put(self._key(request, candidate, choice.model), answer, prompt_sha256=request.prompt.sha256, job=request.subject.explain_job_id)
        if self.budget is not None and request.cloud:
            await self.budget.settle(request.subject)
        return _Found(reading.parsed, made, flags, tracing.here())

    def _key(self, request: ExplanationRequested, candidate: int, model: ModelListed) -> str:
        call = call_for(request.prompt, model, self.llm, sampling=candidate * CANDIDATE_STEP)
        return cache_key(request.prompt.sha256, model, replace(call, features=self.generation.features_per_call) if is_shareable(request.prompt) else call)

    async def _kept(self, request: ExplanationRequested, candidate: int, on_piece: OnPiece | None) -> _Found | None:
        choice = self.endpoints.preferred(request.route, cloud=request.cloud and self.budget is not None)
        if choice is None:
            return None
        kept = await self.answers.get(self._key(request, candidate, choice.model))
        if kept is None:
            return None
        try:
            parsed = read_again(request.prompt, kept.text, kept.generation.finish_reason)
        except UnusableAnswer:
            return None  # kept by a version that read answers differently
        if on_piece is not None:
            await on_piece(request.attempt * self.generation.attempts, kept.text)
        return _Found(parsed, kept.generation, kept.flags).again(request.attempt)


def _count(choice: Choice, completion: Completion) -> None:
    MODEL_REQUESTS.labels(model_name=choice.model.name).inc()
    DURATION.labels(model_name=choice.model.name).observe(completion.latency_s)


def _generation(choice: Choice, completion: Completion, attempt: int, cost_usd: float | None) -> Generation:
    return Generation(
        model=choice.model.name,
        model_digest=choice.model.digest,
        endpoint=choice.endpoint.name,
        provider=choice.endpoint.kind,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        cost_usd=cost_usd,
        reach=choice.endpoint.reach,
        latency_s=completion.latency_s,
        finish_reason=completion.finish_reason,
        attempt=attempt,
    )
