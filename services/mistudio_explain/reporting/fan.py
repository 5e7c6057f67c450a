"""One pass over a job's outcomes for several files: each is written in a thread of its own, and none runs ahead of the others by much."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import Queue

from mistudio_explain.events.explanation import FeatureOutcome

Taker = Callable[[Iterable[FeatureOutcome]], None]
"""Takes all outcomes, in order."""

_TOGETHER = 8
"""Outcomes that are handed over at once; four times as many are in memory, about 150 KB each."""

_END: list[FeatureOutcome] = []


class CutOff(Exception):
    """The stream ended before its end; what happened is raised where it happened."""


class _Stream:
    """What one taker gets."""

    def __init__(self) -> None:
        self.queue: Queue[list[FeatureOutcome] | None] = Queue(1)
        self.has_failed = False
        self._is_over = False

    def __iter__(self) -> Iterator[FeatureOutcome]:
        while (some := self._next()) is not _END:
            yield from some

    def run(self, taker: Taker) -> None:
        """Run a taker; what it leaves is taken away, so that nobody waits for it."""
        try:
            taker(self)
        except BaseException:
            self.has_failed = True
            raise
        finally:
            while not self._is_over:
                try:
                    self._next()
                except CutOff:
                    break

    def _next(self) -> list[FeatureOutcome]:
        some = self.queue.get()
        self._is_over = some is None or some is _END
        if some is None:
            raise CutOff
        return some


def hand_out(outcomes: Iterable[FeatureOutcome], takers: Sequence[Taker]) -> None:
    """Give the outcomes to all takers; raises what one of them, or the outcomes, raised, when all have come to an end."""
    streams = [_Stream() for _ in takers]
    with ThreadPoolExecutor(max(1, len(takers))) as threads:
        running = [threads.submit(stream.run, taker) for stream, taker in zip(streams, takers, strict=True)]
        last: list[FeatureOutcome] | None = None
        try:
            wanted = iter(outcomes)
            while (some := list(islice(wanted, _TOGETHER))) and not any(stream.has_failed for stream in streams):
                for stream in streams:
                    stream.queue.put(some)
            last = None if some else _END
        finally:
            for stream in streams:
                stream.queue.put(last)
    for each in running:
        if (error := each.exception()) is not None and not isinstance(error, CutOff):
            raise error
