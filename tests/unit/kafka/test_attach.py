"""A reader of whole topics whose positions cannot be had."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError

from mistudio_explain.kafka import subscribers
from mistudio_explain.kafka.subscribers import WholeTopicSubscriber

PLACE = TopicPartition("t", 0)


class Consumer:
    """A consumer of one partition that holds ten records."""

    def __init__(self) -> None:
        self.sought: list[int] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [PLACE]

    async def beginning_offsets(self, _: object) -> dict[TopicPartition, int]:
        return {PLACE: 0}

    async def end_offsets(self, _: object) -> dict[TopicPartition, int]:
        return {PLACE: 10}

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


def reader(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> tuple[Any, list[float]]:
    """A reader whose positions fail so often, and how long it waited each time."""
    failing, waits = iter(errors), []

    async def positions(*_: object) -> dict[TopicPartition, int]:
        for error in failing:
            raise error
        return {PLACE: 4}

    async def partitions(*_: object) -> list[TopicPartition]:
        return [PLACE]

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(subscribers, "partitions_of", partitions)
    monkeypatch.setattr(subscribers.asyncio, "sleep", sleep)
    made: Any = WholeTopicSubscriber.__new__(WholeTopicSubscriber)
    made._subscription, made._positions = SimpleNamespace(turn=lambda: None, topics=["t"], title="a reader"), positions
    return made, waits


async def test_whatever_the_positions_fail_by_they_are_asked_for_again_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    made, waits = reader(monkeypatch, *(ValueError("the store is damaged") for _ in range(6)))
    consumer = Consumer()
    assert await made._attach(consumer) == {PLACE: 10}
    assert consumer.sought == [4]
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_consumer_that_was_stopped_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, waits = reader(monkeypatch, ConsumerStoppedError())
    with pytest.raises(ConsumerStoppedError):
        await made._attach(Consumer())
    assert waits == []
