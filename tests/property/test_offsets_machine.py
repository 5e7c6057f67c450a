"""Offset bookkeeping against a log that lives: records come, expire and are compacted away, workers restart, partitions come and go."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mistudio_explain.kafka.offsets import METADATA_LIMIT, CommitPoint, PartitionOffsets, in_flight_of, unpack


class Partition(RuleBasedStateMachine):
    """One partition, what the broker has of it, and the worker that has it now."""

    def __init__(self) -> None:
        super().__init__()
        self.end = 0
        self.begin = 0
        self.log: list[int] = []
        self.done: set[int] = set()
        self.committed = CommitPoint(0)
        self.in_flight: set[int] = set()
        self._start()

    def _start(self) -> None:
        """What a worker does with a partition that it has just been given."""
        offset, finished = self.committed.offset, unpack(self.committed.offset, self.committed.metadata)
        if offset < self.begin:
            offset, finished = self.begin, frozenset(each for each in finished if each >= self.begin)
        self.offsets = PartitionOffsets(offset, finished)
        self.fetch_from = offset
        self.in_flight.clear()

    @rule(count=st.integers(1, 30), gap=st.integers(0, 17))
    def produce(self, count: int, gap: int) -> None:
        self.log += range(self.end, self.end + count)
        self.end += count + gap  # markers of transactions take offsets too

    @rule(most=st.integers(1, 40))
    def take(self, most: int) -> None:
        fetched = [offset for offset in self.log if offset >= self.fetch_from][:most]
        for offset in fetched:
            if self.offsets.take(offset):
                assert offset not in self.in_flight
                self.in_flight.add(offset)
            else:
                assert offset in self.done or offset in self.in_flight, f"{offset} was passed over and never finished"
        if fetched:
            self.fetch_from = fetched[-1] + 1

    @rule(back=st.integers(1, 10))
    def fetch_again(self, back: int) -> None:
        """As after a rebalance that left the partition where it was: the fetch position may be reset."""
        self.fetch_from = max(self.begin, self.offsets.position or 0, self.fetch_from - back)
        for offset in [offset for offset in self.log if self.fetch_from <= offset < self.fetch_from + back]:
            if offset in self.in_flight:
                assert not self.offsets.take(offset)

    @precondition(lambda self: self.in_flight)
    @rule(choices=st.data(), all_but_first=st.booleans())
    def finish(self, choices: st.DataObject, all_but_first: bool) -> None:
        waiting = sorted(self.in_flight)
        for offset in waiting[1:] if all_but_first else [choices.draw(st.sampled_from(waiting))]:
            self.offsets.finish(offset)
            self.in_flight.discard(offset)
            self.done.add(offset)

    @rule()
    def commit(self) -> None:
        point = self.offsets.commit_point()
        if point is None:
            return
        assert not [offset for offset in self.log if self.begin <= offset < point.offset and offset not in self.done], "a commit passed an unfinished record"
        assert unpack(point.offset, point.metadata) <= self.done
        assert len(point.metadata) <= METADATA_LIMIT
        assert in_flight_of(point.metadata) == len(self.in_flight)
        self.offsets.committed(point)
        self.committed = point

    @rule()
    def restart(self) -> None:
        self._start()

    @rule(share=st.floats(0, 1))
    def expire(self, share: float) -> None:
        self.begin += int((self.end - self.begin) * share / 2)
        self.log = [offset for offset in self.log if offset >= self.begin]
        self.fetch_from = max(self.fetch_from, self.begin)

    @rule(choices=st.data())
    def compact(self, choices: st.DataObject) -> None:
        if self.log:
            gone = set(choices.draw(st.lists(st.sampled_from(self.log), max_size=17)))
            self.log = [offset for offset in self.log if offset not in gone]

    @invariant()
    def nothing_is_finished_twice_at_once(self) -> None:
        assert self.offsets.waiting >= 0

    def teardown(self) -> None:
        """A last worker finishes what is left: then everything that the log still has was finished, and all of it is committed."""
        self._start()
        for offset in [offset for offset in self.log if offset >= self.fetch_from]:
            if self.offsets.take(offset):
                self.offsets.finish(offset)
                self.done.add(offset)
        assert set(self.log) <= self.done
        assert self.offsets.waiting == 0
        point = self.offsets.commit_point()
        assert point is not None
        assert point.offset >= (self.log[-1] + 1 if self.log else 0)
        assert unpack(point.offset, point.metadata) == {offset for offset in unpack(point.offset, point.metadata) if offset >= point.offset}


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
