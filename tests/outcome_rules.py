"""Which outcome counts, by example: for each rule of the order a winner and a loser."""

from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from typing import Any

from golden_events import SUBJECT
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind


def outcome(kind: OutcomeKind = OutcomeKind.EXPLAINED, *, revision: int = 0, **fields: Any) -> FeatureOutcome:
    """An outcome of the one feature that these examples are about."""
    return FeatureOutcome(outcome=kind, subject=SUBJECT.model_copy(update={"revision": revision}), **fields)


def tempting(loser: FeatureOutcome, winner: FeatureOutcome) -> FeatureOutcome:
    """The loser, worded so that the hash alone, the last part of the order, would choose it."""
    wordings = (loser.model_copy(update={"review_reason": f"wording {number}"}) for number in count())
    return next(wording for wording in wordings if sha256(encode(wording)).digest() > sha256(encode(winner)).digest())


RULES: Mapping[str, tuple[FeatureOutcome, FeatureOutcome]] = {
    "an explanation beats a skip of a later revision": (outcome(), outcome(OutcomeKind.SKIPPED, revision=9, reason="poor")),
    "an explanation beats a failure of a later pass": (outcome(), outcome(OutcomeKind.FAILED, revision=9, pass_number=2, reason="timeout")),
    "a skip beats a failure of a later revision": (outcome(OutcomeKind.SKIPPED), outcome(OutcomeKind.FAILED, revision=9)),
    "a later revision beats a later pass and later versions": (outcome(revision=10), outcome(revision=9, pass_number=2, validator_version=9)),
    "at the same revision the second pass wins over later versions": (outcome(pass_number=2), outcome(validator_version=9, background_version=90)),
    "in the same pass the later validator wins over a later background": (outcome(validator_version=2), outcome(validator_version=1, background_version=90)),
    "with the same validator the later background wins": (outcome(background_version=21), outcome(background_version=20)),
    "among failures too the later revision wins": (outcome(OutcomeKind.FAILED, revision=2), outcome(OutcomeKind.FAILED, revision=1, pass_number=2)),
}
