"""What waits in the topics, as the aggregator reckons it."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mistudio_explain.aggregation import backlog
from mistudio_explain.aggregation.backlog import Backlog
from mistudio_explain.events.topics import ADMISSIONS, EXPLANATIONS
from mistudio_explain.observability.lag_figures import GroupReading, LagReading, PartitionReading, TopicPartitionReading
from mistudio_explain.settings import Settings


class Log:
    """A Kafka in which prompts wait, and whose topics grow by a record while they are looked at."""

    def __init__(self, ends: Mapping[str, int], prompts: int = 0) -> None:
        self.ends = dict(ends)
        self.prompts = prompts

    async def offsets(self) -> LagReading:
        self.ends = {topic: end + 1 for topic, end in self.ends.items()}
        group = GroupReading("generation", "g", 1, (PartitionReading("mistudio.explain.prompts.m", 0, 0, self.prompts, 0),))
        return LagReading(0, {}, tuple(TopicPartitionReading(topic, 0, 1, (1,), (1,), 0, end) for topic, end in self.ends.items()), (group,))


class Store:
    """Rows that were read up to where the log ends at this moment, or so far beyond what is known of it."""

    def __init__(self, log: Log, beyond: int = 0) -> None:
        self._log, self._beyond = log, beyond

    def positions(self, topic: str) -> dict[int, int]:
        return {0: self._log.ends[topic] + self._beyond}


async def waiting(log: Log, store: Store, monkeypatch: pytest.MonkeyPatch) -> int | None:
    monkeypatch.setattr(backlog, "LagReader", lambda *_, **__: log)
    app: Any = SimpleNamespace(clients=SimpleNamespace(is_embedded=False), admin=None, settings=Settings())
    return await Backlog(app).read(cast("Any", store), tuple(log.ends))


async def test_a_partition_that_was_read_beyond_its_known_end_does_not_hide_what_waits_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log({EXPLANATIONS: 100}, prompts=5)
    assert await waiting(log, Store(log, beyond=6), monkeypatch) == 5


async def test_what_is_written_while_the_offsets_are_read_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log({EXPLANATIONS: 100, ADMISSIONS: 7})
    assert await waiting(log, Store(log), monkeypatch) == 2
