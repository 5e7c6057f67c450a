"""One record's way through generation: cache, slot, call, answer, and another try."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mistudio_explain.errors import ExplainError
from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, Generation, Prompt
from mistudio_explain.generation.stage import UnusableAnswer, drafted, parse
from mistudio_explain.llm.answers_cache import AnswersCache, KeptAnswer, cache_key
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import CallFailure, ConnectionDropped
from mistudio_explain.llm.provider import Call, Completion, ModelListed, OnText, Patience
from mistudio_explain.settings import GenerationSettings, LlmSettings

SENTENCE_TOKENS = 96  # a sentence of 60 words; more is a model that repeats itself
RESAMPLE_TEMPERATURE = 0.6
"""After an unusable answer: at temperature 0 the same call gives the same answer again."""
MAX_DROPS = 8
"""So often an endpoint may go down under a record before the record is suspected of it: else one that makes the server crash would do so for ever."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FailedTry:
    """One try of a record that gave no draft."""

    endpoint: str
    model: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.model} at {self.endpoint}, {self.kind}: {self.message}"


class GivenUp(ExplainError):
    """A record got no usable answer in all its tries."""

    def __init__(self, request: ExplanationRequested, tries: list[FailedTry], *, repeatable: bool = True) -> None:
        subject = request.subject
        listed = "; ".join(f"({number}) {failed}" for number, failed in enumerate(tries, 1))
        super().__init__(
            f"feature {subject.feature_key} of {subject.explain_job_id} got no usable answer in {len(tries)} {'try' if len(tries) == 1 else 'tries'}: {listed}"
        )
        self.tries = tuple(tries)
        self.attempts = len(tries)
        self.repeatable = repeatable


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


async def explain(
    request: ExplanationRequested,
    endpoints: Endpoints,
    answers: AnswersCache,
    *,
    llm: LlmSettings,
    generation: GenerationSettings,
    rng: random.Random,
    is_urgent: bool = False,
    sleep: Sleep = asyncio.sleep,
    on_text: OnText | None = None,
) -> ExplanationDrafted:
    """Get a draft for a request.

    An answer that is kept is used, also while every endpoint is away. While no endpoint can serve the request it is
    held, without limit: cancel it to stop. An urgent request takes the next slot that falls free. Raises GivenUp after
    `generation.attempts` tries that failed by the record's own fault, or at once when another try cannot help.
    """
    tries: list[FailedTry] = []
    unusable = drops = 0
    kept = await _kept(request, endpoints.preferred(request.route), answers, llm)
    if kept is not None:
        return kept
    while True:
        async with endpoints.slot(request.route, is_urgent=is_urgent) as choice:
            # a redelivered request goes on where its last delivery stopped, else it would get the same unusable answers again
            call = call_for(request.prompt, choice.model, llm, sampling=unusable + request.attempt * generation.attempts, on_text=on_text)
            try:
                completion = await endpoints.complete(choice, call)
                flags = [*choice.flags, *(["resampled"] if call.seed != llm.seed else [])]
                made = _generation(choice, completion, attempt=request.attempt + len(tries))
                draft = drafted(request, parse(request.prompt, completion.text, completion.finish_reason), made, flags)
                base = call_for(request.prompt, choice.model, llm)
                answer = KeptAnswer(text=completion.text, generation=made, flags=flags)
                await answers.put(
                    cache_key(request.prompt.sha256, choice.model, base), answer, prompt_sha256=request.prompt.sha256, job=request.subject.explain_job_id
                )
                return draft
            except UnusableAnswer as error:
                unusable += 1
                tries.append(FailedTry(choice.endpoint.name, choice.model.name, error.kind, str(error)))
                final = False
            except CallFailure as failure:
                drops += isinstance(failure, ConnectionDropped)
                if await endpoints.blames_endpoint(choice, call, failure) and drops <= MAX_DROPS:
                    continue
                tries.append(FailedTry(choice.endpoint.name, choice.model.name, failure.kind, str(failure)))
                final = not failure.repeatable
        if final or len(tries) >= generation.attempts:
            raise GivenUp(request, tries, repeatable=not final)
        await sleep(rng.uniform(0, generation.retry_wait_s * 2 ** (len(tries) - 1)))


async def _kept(request: ExplanationRequested, choice: Choice | None, answers: AnswersCache, llm: LlmSettings) -> ExplanationDrafted | None:
    if choice is None:
        return None
    kept = await answers.get(cache_key(request.prompt.sha256, choice.model, call_for(request.prompt, choice.model, llm)))
    if kept is None:
        return None
    try:
        parsed = parse(request.prompt, kept.text, kept.generation.finish_reason)
    except UnusableAnswer:
        return None  # kept by a version that read answers differently
    return drafted(request, parsed, kept.generation.model_copy(update={"cached": True, "attempt": request.attempt}), kept.flags)


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
