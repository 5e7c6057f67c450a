"""When a waiting record is due."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.redelivery.stage import due_ms, wait_s

_MOMENT = st.integers(0, 2**42)


@given(not_before=st.none() | _MOMENT, written=_MOMENT, delay=st.floats(0, 3600))
def test_nothing_waits_longer_than_its_topics_delay_whatever_a_writers_clock_says(not_before: int | None, written: int, delay: float) -> None:
    due = due_ms(not_before, written, delay)
    assert due <= written + 1000 * delay
    assert not_before is None or due <= not_before


def test_a_record_is_due_when_its_writer_said_so() -> None:
    assert due_ms(5_000, 1_000, 30) == 5_000
    assert due_ms(None, 1_000, 30) == 31_000


def test_the_wait_ends_at_zero() -> None:
    assert wait_s(5_000, 3_500) == 1.5
    assert wait_s(5_000, 9_000) == 0
