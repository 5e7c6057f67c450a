"""One call for several features, and each one's own reading out of its answer."""

from collections.abc import Sequence
from dataclasses import replace

from mistudio_explain.errors import UnusableAnswer
from mistudio_explain.events.explanation import ExplanationRequested, Prompt
from mistudio_explain.generation.repair import Reading, Said
from mistudio_explain.generation.several import joined, parted
from mistudio_explain.llm.placement import Choice
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.observability.metrics import SHARED_ANSWERS


def call_for_several(call: Call, prompts: Sequence[Prompt]) -> Call:
    """The call for several features, out of that for the first: it may take as long and say as much for each."""
    several = len(prompts)
    return replace(
        call,
        messages=joined(prompts),
        features=several,
        max_tokens=several * call.max_tokens,
        patience=replace(call.patience, deadline_s=several * call.patience.deadline_s),
    )


def read_shared(requests: Sequence[ExplanationRequested], choice: Choice, call: Call, completion: Completion) -> list[Reading | None]:
    """Each feature's own answer, as if it had been given alone, with its share of the call's tokens."""
    found = parted(completion.text, completion.finish_reason, [(request.prompt, request.evidence) for request in requests])
    readings: list[Reading | None] = []
    for place, (text, parsed) in enumerate(found):
        SHARED_ANSWERS.labels(model_name=choice.model.name, result=parsed.kind if isinstance(parsed, UnusableAnswer) else "usable").inc()
        if isinstance(parsed, UnusableAnswer):
            readings.append(None)
            continue
        alone = replace(_share(completion, place, len(requests)), text=text, finish_reason="stop")
        readings.append(Reading(parsed, Said(choice, call, alone), (f"features_per_call:{len(requests)}",)))
    return readings


def _share(completion: Completion, place: int, sharers: int) -> Completion:
    """One feature's share of a call: its tokens, so that those of all add up to the call's."""

    def share(total: int | None) -> int | None:
        return None if total is None else total * (place + 1) // sharers - total * place // sharers

    return replace(completion, tokens_in=share(completion.tokens_in), tokens_out=share(completion.tokens_out), cached_tokens=share(completion.cached_tokens))
