"""Which outcome of a feature counts: each rule of the order, by example."""

from collections.abc import Sequence
from hashlib import sha256

import pytest

from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.winner import Rank, rank
from outcome_rules import RULES, outcome, tempting


def _rank(event: FeatureOutcome) -> Rank:
    return rank(event, sha256(encode(event)).hexdigest())


def _kept(arrivals: Sequence[FeatureOutcome]) -> FeatureOutcome:
    """What a reader keeps that replaces what it has only by something greater."""
    kept = arrivals[0]
    for arrival in arrivals[1:]:
        if _rank(arrival) > _rank(kept):
            kept = arrival
    return kept


@pytest.mark.parametrize("rule", RULES)
def test_the_winner_is_kept_in_either_order_of_arrival(rule: str) -> None:
    winner, loser = RULES[rule]
    loser = tempting(loser, winner)
    assert _kept([winner, loser]) == winner
    assert _kept([loser, winner]) == winner


def test_when_all_else_is_equal_every_reader_picks_the_same_by_the_hash_of_the_bytes() -> None:
    one, other = outcome(explanation="One."), outcome(explanation="Other.")
    assert _kept([one, other]) == _kept([other, one])
    assert rank(one, "00ff") > rank(one, "00fe")


def test_a_zombie_that_wakes_up_cannot_replace_an_explained_outcome() -> None:
    explained = outcome(revision=1, explanation="Detects JSON.", validator_version=1)
    woken = [
        outcome(OutcomeKind.FAILED, revision=1, reason="lost its partition"),
        outcome(OutcomeKind.SKIPPED, revision=1, reason="cancelled"),
        outcome(OutcomeKind.FAILED, revision=2, pass_number=2, reason="the second try failed"),
        outcome(revision=0, explanation="An answer to an older request.", validator_version=9),
    ]
    assert all(_kept([explained, late]) == explained for late in woken)


def test_the_same_outcome_delivered_twice_changes_nothing() -> None:
    once = outcome(revision=1, validator_version=2)
    assert _rank(once) == _rank(once.model_copy(deep=True))
