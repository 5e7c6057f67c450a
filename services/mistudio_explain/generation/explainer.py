"""One record's way through generation: cache, slot, call, answer, and another try."""

import asyncio
import random

from mistudio_explain.errors import ExplainError, UnusableAnswer
from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, Generation, Prompt
from mistudio_explain.generation.stage import drafted, parse
from mistudio_explain.llm.answers_cache import AnswersCache, KeptAnswer, cache_key
from mistudio_explain.llm.asking import NoAnswer, Sleep, ask
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.provider import Call, Completion, ModelListed, OnText, Patience
from mistudio_explain.settings import GenerationSettings, LlmSettings

SENTENCE_TOKENS = 96  # a sentence of 60 words; more is a model that repeats itself
RESAMPLE_TEMPERATURE = 0.6
"""After an unusable answer: at temperature 0 the same call gives the same answer again."""


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
    kept = await _kept(request, endpoints.preferred(request.route), answers, llm)
    if kept is not None:
        return kept

    def sampled(choice: Choice, unusable: int) -> Call:
        # a redelivered request goes on where its last delivery stopped, else it would get the same unusable answers again
        return call_for(request.prompt, choice.model, llm, sampling=unusable + request.attempt * generation.attempts, on_text=on_text)

    try:
        asked = await ask(
            endpoints,
            request.route,
            sampled,
            lambda completion: parse(request.prompt, completion.text, completion.finish_reason),
            attempts=generation.attempts,
            retry_wait_s=generation.retry_wait_s,
            rng=rng,
            is_urgent=is_urgent,
            sleep=sleep,
        )
    except NoAnswer as error:
        raise GivenUp(request, error) from error
    choice, completion = asked.choice, asked.completion
    flags = [*choice.flags, *(["resampled"] if asked.call.seed != llm.seed else [])]
    made = _generation(choice, completion, attempt=request.attempt + len(asked.tries))
    key = cache_key(request.prompt.sha256, choice.model, call_for(request.prompt, choice.model, llm))
    answer = KeptAnswer(text=completion.text, generation=made, flags=flags)
    await answers.put(key, answer, prompt_sha256=request.prompt.sha256, job=request.subject.explain_job_id)
    return drafted(request, asked.read, made, flags)


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
