"""When a waiting record is due."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.redelivery.stage import Waits, due_ms, wait_s

_MOMENT = st.integers(0, 2**42)


@given(not_before=st.none() | _MOMENT, written=_MOMENT, delay=st.floats(0, 3600))
def test_nothing_waits_longer_than_its_topics_delay_whatever_a_writers_clock_says(not_before: int | None, written: int, delay: float) -> None:
    due = due_ms(not_before, written, delay)
    assert due <= written + 1000 * delay
    assert not_before is None or due <= not_before


@given(
    host_behind_ms=st.integers(-3_600_000, 3_600_000),
    booted_ms=st.integers(0, 10**9),
    written_ms=st.lists(st.integers(0, 60_000), min_size=1, max_size=20).map(sorted),
    has_header=st.booleans(),
)
def test_nothing_waits_longer_than_its_topics_delay_whatever_this_hosts_clock_says(
    host_behind_ms: int, booted_ms: int, written_ms: list[int], has_header: bool
) -> None:
    there = 1_764_000_000_000  # the broker's clock
    waits = Waits({"retry": 30.0}, lambda: there - host_behind_ms, lambda: (there - booted_ms) / 1000)
    for written in (there + each for each in written_ms):
        there = max(there, written)  # it is read as soon as it is written, or once the one before it went
        not_before = written - host_behind_ms + 30_000 if has_header else None  # by a writer on this host
        there += int(1000 * waits.seconds("retry", 0, not_before, written))
        assert there <= written + 30_001
        if host_behind_ms >= 0:
            assert there >= written + 30_000 - 1, "nor is it due too early"


def test_what_waited_while_nobody_read_is_due_at_once() -> None:
    assert Waits({"retry": 30.0}, lambda: 100_000, lambda: 5.0).seconds("retry", 0, None, 60_000) == 0


def test_a_record_is_due_when_its_writer_said_so() -> None:
    assert due_ms(5_000, 1_000, 30) == 5_000
    assert due_ms(None, 1_000, 30) == 31_000


def test_the_wait_ends_at_zero() -> None:
    assert wait_s(5_000, 3_500) == 1.5
    assert wait_s(5_000, 9_000) == 0
