"""Which of several answers to one prompt is taken: the one that best fits texts which none of them was made from."""

from collections.abc import Callable

from mistudio_explain.events.explanation import Evidence, ExplanationDrafted, Generation
from mistudio_explain.events.feature import Activation

ON_SEEN = "chosen_on_seen"
"""No text was held out, so the answer was chosen on the very texts it was made from."""

Fit = Callable[[str], float | None]
"""The accuracy of a pattern on the texts of the choice; None when the gate turns it away or nothing can be checked."""


def set_aside(evidence: Evidence) -> tuple[Evidence, list[Activation]]:
    """Every other held-out text, the first one included, for the choice; without any, the seen ones.

    What is set aside counts as seen from then on, so that the accuracy on the held-out texts that are left is no better
    for having chosen.
    """
    chosen_on, left = evidence.held_out[::2], evidence.held_out[1::2]
    return evidence.model_copy(update={"held_out": [*chosen_on, *left], "chosen_on": len(chosen_on)}), chosen_on or evidence.seen


def chosen(draft: ExplanationDrafted, fit: Fit, confirmed_from: float) -> ExplanationDrafted:
    """The draft with the best of its candidates; its evidence is what `set_aside` made of it.

    An answer that the gate turns away is taken only when all are; where that is the first one, another must be above
    `confirmed_from`, lest "unclear" always loses. Of equals the first is taken.
    """
    fits = [fit(candidate.answer.pattern) for candidate in draft.candidates]
    best, greatest = 0, confirmed_from if fits[0] is None else fits[0]
    for place, value in enumerate(fits):
        if value is not None and value > greatest:
            best, greatest = place, value
    first, taken = draft.candidates[0], draft.candidates[best]
    kept = [flag for flag in draft.flags if flag not in first.flags]
    return draft.model_copy(
        update={
            "answer": taken.answer,
            "generation": _together(taken.generation, [candidate.generation for candidate in draft.candidates]),
            "flags": [*kept, *taken.flags, f"candidates:{len(draft.candidates)}", *([] if draft.evidence.chosen_on else [ON_SEEN])],
            "candidates": [],
        }
    )


def _together(taken: Generation, every: list[Generation]) -> Generation:
    """The call of the answer that is taken, with the tokens and cost of all that were asked for: all were paid."""
    paid = [each for each in every if not each.cached] or every
    sums = {name: _sum([getattr(each, name) for each in paid]) for name in ("tokens_in", "tokens_out", "cost_usd")}
    return taken.model_copy(update={**sums, "cached": all(each.cached for each in every)})


def _sum(values: list[float | None]) -> float | None:
    """The sum; None when a part of it is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
