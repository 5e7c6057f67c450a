"""Positions as ids of events: read back as written, joined, and compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.errors import BadInput
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS
from mistudio_explain.gateway.position import Position

OFFSETS = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=8).map(tuple)
POSITIONS = st.builds(Position, st.just("0123abcd"), OFFSETS, OFFSETS)
BOTH = (REPORTS, EXPLANATIONS)


@given(POSITIONS)
def test_an_id_is_read_back_as_the_position_that_it_was_made_of(position: Position) -> None:
    assert Position.read(str(position)) == position


@given(POSITIONS, POSITIONS)
def test_whoever_has_seen_what_either_has_seen_has_seen_both_and_no_more(one: Position, other: Position) -> None:
    both = one.joined(other)
    assert both.has_seen(one, BOTH)
    assert both.has_seen(other, BOTH)
    assert all(offset in (one.next_of(EXPLANATIONS, p), other.next_of(EXPLANATIONS, p)) for p, offset in enumerate(both.explanations))


@given(POSITIONS, st.integers(0, 12), st.integers(0, 10**6))
def test_a_record_that_was_seen_is_behind_the_position(position: Position, partition: int, offset: int) -> None:
    after = position.after(EXPLANATIONS, partition, offset)
    assert after.next_of(EXPLANATIONS, partition) > offset
    assert after.has_seen(position, BOTH)
    assert after.reports == position.reports


def test_a_partition_that_was_added_since_was_not_seen() -> None:
    assert Position("0123abcd", (1,), (5,)).next_of(EXPLANATIONS, 3) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0123abcd",
        "0123abcd.1",
        "0123abcd.1.",
        "0123ABCD.1.2",
        "0123abcd.-1.2",
        "0123abcd.1.2-",
        "0123abcd.1.2\nevent: x",
        "0123abcd.1." + "1" * 20,
        "0123abcd.1." + "-".join(["1"] * 5000),
        "０123abcd.1.2",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="Last-Event-ID"):
        Position.read(text)
