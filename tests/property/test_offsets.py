"""Offset bookkeeping: whatever the order of taking, finishing and restarting, no record is lost or wrongly committed."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.kafka.offsets import METADATA_LIMIT, PartitionOffsets, in_flight_of, pack, unpack

_LOG = st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True).map(sorted)


@given(base=st.integers(0, 2**40), finished=st.sets(st.integers(0, 5000), max_size=300))
def test_a_bitmap_that_was_written_reads_back_the_same(base: int, finished: set[int]) -> None:
    offsets = {base + offset for offset in finished}
    packed = pack(base, offsets)
    assert len(packed) <= METADATA_LIMIT
    assert unpack(base, packed) in (frozenset(offsets), frozenset())
    if len(finished) <= 256 and max(finished, default=0) < 512:
        assert unpack(base, packed) == offsets


@given(base=st.integers(0, 10), noise=st.text(max_size=60))
def test_foreign_metadata_is_no_offsets_and_no_error(base: int, noise: str) -> None:
    assert unpack(base, "b1:" + noise) is not None
    assert unpack(base, "x" + noise) == frozenset()


@given(log=_LOG, choices=st.data())
def test_a_commit_never_passes_an_unfinished_offset(log: list[int], choices: st.DataObject) -> None:
    offsets = PartitionOffsets()
    taken: set[int] = set()
    finished: set[int] = set()
    waiting = list(log)
    while waiting or taken - finished:
        if waiting and (not taken - finished or choices.draw(st.booleans())):
            offset = waiting.pop(0)
            assert offsets.take(offset)
            taken.add(offset)
        else:
            offset = choices.draw(st.sampled_from(sorted(taken - finished)))
            offsets.finish(offset)
            finished.add(offset)
        point = offsets.commit_point()
        if point is not None:
            assert {o for o in taken if o < point.offset} <= finished
            assert unpack(point.offset, point.metadata) <= finished
            offsets.committed(point)
    assert offsets.position == log[-1] + 1
    assert offsets.waiting == 0


@given(log=_LOG, choices=st.data())
def test_every_record_is_finished_over_any_number_of_restarts_and_none_is_repeated_that_was_committed(log: list[int], choices: st.DataObject) -> None:
    committed: tuple[int | None, str] = (None, "")
    finished: list[int] = []
    known_at_commit: set[int] = set()
    for _ in range(4):
        base, metadata = committed
        offsets = PartitionOffsets(base, unpack(base, metadata) if base is not None else frozenset())
        mine: list[int] = []
        for offset in (o for o in log if base is None or o >= base):
            if offsets.take(offset):
                assert offset not in known_at_commit
                mine.append(offset)
        order = choices.draw(st.permutations(mine))
        for offset in order[: choices.draw(st.integers(0, len(mine)))]:
            offsets.finish(offset)
            finished.append(offset)
        if (point := offsets.commit_point()) is not None:
            committed = (point.offset, point.metadata)
            known_at_commit = set(finished)
    base, metadata = committed
    last = PartitionOffsets(base, unpack(base, metadata) if base is not None else frozenset())
    for offset in (o for o in log if base is None or o >= base):
        if last.take(offset):
            last.finish(offset)
            finished.append(offset)
    assert set(finished) == set(log)
    assert last.position == log[-1] + 1


@given(log=_LOG, gone=st.sets(st.integers(0, 400)), choices=st.data())
def test_records_that_were_compacted_away_since_the_bitmap_was_written_hold_nothing_up(log: list[int], gone: set[int], choices: st.DataObject) -> None:
    before = PartitionOffsets(log[0])
    for offset in log:
        before.take(offset)
    for offset in choices.draw(st.sets(st.sampled_from(log))):
        before.finish(offset)
    point = before.commit_point()
    assert point is not None
    after = PartitionOffsets(point.offset, unpack(point.offset, point.metadata))
    left = [offset for offset in log if offset >= point.offset and offset not in gone]
    for offset in left:
        if after.take(offset):
            after.finish(offset)
    assert after.waiting == 0
    assert after.position == (max(left) + 1 if left else point.offset)
    later = after.commit_point()
    assert later is not None
    assert unpack(later.offset, later.metadata) <= {o for o in log if o >= later.offset}


@given(log=_LOG)
def test_a_record_fetched_again_while_in_flight_is_not_handled_twice(log: list[int]) -> None:
    offsets = PartitionOffsets(log[0])
    assert [offsets.take(offset) for offset in log] == [True] * len(log)
    assert [offsets.take(offset) for offset in log] == [False] * len(log)
    for offset in log:
        offsets.finish(offset)
    assert offsets.position == log[-1] + 1


def test_a_bitmap_that_does_not_fit_is_left_out_whole() -> None:
    scattered = {offset for offset in range(60_000) if random.Random(offset).random() < 0.5}
    assert pack(0, scattered) == ""
    offsets = PartitionOffsets(0)
    for offset in range(60_000):
        offsets.take(offset)
    for offset in scattered - {0}:
        offsets.finish(offset)
    point = offsets.commit_point()
    assert point is not None
    assert unpack(point.offset, point.metadata) == frozenset()
    assert in_flight_of(point.metadata) == 60_000 - len(scattered - {0})


@given(noise=st.text(max_size=40))
def test_in_flight_is_what_the_metadata_says_and_nothing_else(noise: str) -> None:
    assert in_flight_of(None) is None
    assert in_flight_of("b1:abc") is None
    assert in_flight_of("b1:abc,f12") == 12
    assert in_flight_of(",f0") == 0
    assert in_flight_of(noise) is None or noise.rpartition(",f")[2].isdigit()
