"""Lag: whatever a group has committed and whatever the log holds, the figures count each record once."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.observability.lag_figures import GroupReading, LagReading, PartitionReading, figures

GROUP = "mistudio-explain.generation"
TOPIC = "mistudio.explain.prompts.m"


@st.composite
def partitions(draw: st.DrawFn, number: int = 0) -> PartitionReading:
    begin = draw(st.integers(0, 50))
    end = begin + draw(st.integers(0, 60))
    committed = draw(st.none() | st.integers(0, end + 20))
    finished = frozenset() if committed is None else draw(st.frozensets(st.integers(committed, committed + 40), max_size=20))
    return PartitionReading(TOPIC, number, begin, end, committed, finished)


def reading(at_s: float, *parts: PartitionReading, service: str = "generation") -> LagReading:
    return LagReading(at_s, {1: "a:1"}, (), (GroupReading(service, GROUP, 1, tuple(parts)),))


@given(part=partitions())
def test_unfinished_are_exactly_the_offsets_of_the_log_that_no_commit_covers(part: PartitionReading) -> None:
    covered = part.finished | set(range(part.committed)) if part.committed is not None and part.committed <= part.end else set()
    left = [offset for offset in range(part.begin, part.end) if offset not in covered]
    assert part.unfinished == len(left)
    assert part.first_unfinished == (left[0] if left else None)


@given(part=partitions())
def test_lag_is_what_kafka_counts_where_kafka_counts_and_the_whole_log_elsewhere(part: PartitionReading) -> None:
    if part.committed is None or part.committed > part.end:
        assert part.lag == part.end - part.begin == part.unfinished
    else:
        assert part.lag == part.end - part.committed
        finished_in_the_log = sum(1 for offset in part.finished if part.begin <= offset < part.end)
        finished_and_gone = sum(1 for offset in part.finished if offset < part.begin)
        assert part.lag == part.unfinished + part.expired + finished_in_the_log + finished_and_gone


@given(part=partitions(), data=st.data())
def test_the_rate_is_of_the_records_that_were_finished_in_between(part: PartitionReading, data: st.DataObject) -> None:
    start = part.begin if part.committed is None or part.committed > part.end else max(part.committed, part.begin)
    beyond = {offset for offset in part.finished if start <= offset < part.end} if part.committed is not None and part.committed <= part.end else set()
    before = PartitionReading(TOPIC, 0, part.begin, part.end, start, frozenset(beyond))
    todo = [offset for offset in range(start, part.end) if offset not in beyond]
    done = beyond | set(data.draw(st.lists(st.sampled_from(todo), unique=True)) if todo else [])
    committed = start
    while committed in done:
        committed += 1
    after = PartitionReading(TOPIC, 0, part.begin, part.end + 7, committed, frozenset(offset for offset in done if offset >= committed))
    (row,) = figures(reading(104.0, after), reading(100.0, before))
    assert row.rate == (len(done) - len(beyond)) / 4
    assert row.drain_s == (row.unfinished / row.rate if row.rate else None)


@given(parts=st.lists(st.integers(), max_size=4).flatmap(lambda them: st.tuples(*(partitions(number) for number in range(len(them))))))
def test_a_topics_figures_are_the_sums_of_its_partitions(parts: tuple[PartitionReading, ...]) -> None:
    rows = figures(reading(100.0, *parts))
    if not parts:
        assert rows == []
        return
    (row,) = rows
    assert (row.lag, row.unfinished) == (sum(part.lag for part in parts), sum(part.unfinished for part in parts))
    assert row.unfinished >= 0
    assert row.uncommitted == sum(part.committed is None for part in parts)
    assert row.rate is None
    assert row.drain_s is None


@given(part=partitions(), steps=st.integers(0, 30))
def test_expiry_alone_finishes_nothing(part: PartitionReading, steps: int) -> None:
    begin = min(part.begin + steps, part.end)
    later = PartitionReading(TOPIC, 0, begin, part.end, part.committed, part.finished)
    assert later.finished_since(part) in (0, None)
