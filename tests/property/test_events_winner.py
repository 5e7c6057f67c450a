"""Whatever the order in which outcomes arrive, and however often, every reader ends with the same one."""

import random
from collections.abc import Sequence
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from golden_events import SUBJECT
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.winner import Rank, rank

SMALL = st.integers(0, 2)


def outcomes_of(*kinds: OutcomeKind) -> st.SearchStrategy[FeatureOutcome]:
    return st.builds(
        FeatureOutcome,
        outcome=st.sampled_from(kinds),
        subject=SMALL.map(lambda revision: SUBJECT.model_copy(update={"revision": revision})),
        pass_number=st.integers(1, 2),
        validator_version=SMALL,
        background_version=SMALL,
        explanation=st.sampled_from(["One.", "Other."]),
    )


outcomes = outcomes_of(*OutcomeKind)


def _rank(value: bytes, event: FeatureOutcome) -> Rank:
    return rank(event, sha256(value).hexdigest())


def _kept(arrivals: Sequence[FeatureOutcome]) -> bytes:
    """The bytes that a reader ends with that replaces what it has only by something greater."""
    best: tuple[Rank, bytes] | None = None
    for event in arrivals:
        value = encode(event)
        placed = _rank(value, event)
        if best is None or placed > best[0]:
            best = placed, value
    assert best is not None
    return best[1]


@given(st.lists(outcomes, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_same_outcome_wins_in_any_order_with_any_repeats(arrived: list[FeatureOutcome], order: random.Random) -> None:
    again = arrived + order.choices(arrived, k=2)
    order.shuffle(again)
    assert _kept(again) == _kept(arrived)


@given(outcomes, outcomes)
def test_only_the_same_bytes_rank_the_same(one: FeatureOutcome, other: FeatureOutcome) -> None:
    same = _rank(encode(one), one) == _rank(encode(other), other)
    assert same == (encode(one) == encode(other))


@given(outcomes_of(OutcomeKind.EXPLAINED), st.lists(outcomes_of(OutcomeKind.SKIPPED, OutcomeKind.FAILED), max_size=5))
def test_no_late_arrival_of_another_kind_takes_an_explanation_away(explained: FeatureOutcome, late: list[FeatureOutcome]) -> None:
    assert _kept([explained, *late]) == _kept([*late, explained]) == encode(explained)


@given(st.sampled_from(OutcomeKind).flatmap(lambda kind: st.tuples(outcomes_of(kind), outcomes_of(kind))), st.integers(1, 3))
def test_among_outcomes_of_a_kind_the_later_revision_wins(pair: tuple[FeatureOutcome, FeatureOutcome], revisions: int) -> None:
    earlier, other = pair
    revision = earlier.subject.revision + revisions
    later = other.model_copy(update={"subject": other.subject.model_copy(update={"revision": revision})})
    assert _kept([earlier, later]) == _kept([later, earlier]) == encode(later)
