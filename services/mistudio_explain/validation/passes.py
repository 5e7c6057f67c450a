"""Both passes of a feature that was explained twice: each draft is scored, and the better explanation counts."""

from mistudio_explain.events.explanation import ExplanationDrafted, FeatureOutcome, Verification
from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

SECOND_PASS = "second_pass"
SECOND_PASS_LOST = "second_pass_lost"

_WORTH = {Verification.CONFIRMED: 3, Verification.PARTIAL: 2, Verification.UNVERIFIABLE: 1, Verification.CONTRADICTED: 0}
"""An explanation that the texts contradict is worth less than one that nobody can check."""


def validate_passes(draft: ExplanationDrafted, background: JobBackground | None, validator: Validator) -> FeatureOutcome:
    """Score a draft, and the first pass's where this is the second; the better one's outcome, which carries what the other cost.

    Better is the better verdict, then the greater quality score, then the greater accuracy; of equals the first pass's.
    """
    first = draft.first_pass
    if first is None:
        return validate(draft, background, validator).model_copy(update={"other": draft.other})
    earlier = draft.model_copy(
        update={
            "answer": first.answer,
            "generation": first.generation,
            "prompt": first.prompt,
            "flags": first.flags,
            "earlier": None,
            "first_pass": None,
            "candidates": [],
        }
    )
    second, kept = validate(draft, background, validator), validate(earlier, background, validator)
    if _worth(second) > _worth(kept):
        return _marked(second, SECOND_PASS).model_copy(update={"other": first.generation})
    return _marked(kept, SECOND_PASS, SECOND_PASS_LOST).model_copy(update={"other": draft.generation})


def _worth(outcome: FeatureOutcome) -> tuple[int, float, float]:
    verification = outcome.pattern_verification or Verification.UNVERIFIABLE
    quality = -1.0 if outcome.quality_score is None else outcome.quality_score
    return _WORTH[verification], quality, -1.0 if outcome.accuracy is None else outcome.accuracy.p


def _marked(outcome: FeatureOutcome, *flags: str) -> FeatureOutcome:
    return outcome.model_copy(update={"flags": [*outcome.flags, *flags], "draft_flags": [*(outcome.draft_flags or ()), *flags]})
