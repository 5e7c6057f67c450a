"""What a route of the gateway works with."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from mistudio_explain.gateway.known import KnownJobs
from mistudio_explain.gateway.live import Live
from mistudio_explain.gateway.looks import Looked
from mistudio_explain.gateway.problems import AGAIN, Problem
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import Outgoing
from mistudio_explain.settings import Settings
from mistudio_explain.store.deliveries import StoredDeliveries
from mistudio_explain.store.jobs import JobStore
from mistudio_explain.store.readers import Readers
from mistudio_explain.store.replies import StoredReplies

_PUBLISH_S = 15.0
"""What a caller waits for Kafka to confirm an order, before they are told to come again."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway's means: its process's stream application, where new ids come from, and what its routes have in common.

    `jobs` are those that the topics know, `readers` connections to the store, `replies` the answers that were given to orders;
    `live` is what is read from Kafka for all clients, `lag` and `fleet` are looks at what is outside, `deliveries` says who was told of jobs' ends.
    """

    stream: StreamApp
    jobs: KnownJobs
    readers: Readers
    replies: StoredReplies
    new_id: Callable[[], str]
    live: Live
    lag: Looked
    fleet: Looked
    deliveries: StoredDeliveries

    @property
    def settings(self) -> Settings:
        """The process's settings."""
        return self.stream.settings

    @property
    def clients(self) -> KafkaClients:
        """Clients of the process's Kafka."""
        return self.stream.clients

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self.stream.now_ms()

    @contextmanager
    def reading(self) -> Iterator[JobStore | None]:
        """The aggregator's rows, to be used by one thread until the end; None while no aggregator has made them.

        Blocks: for routes that run in a thread.
        """
        with self.readers.reading() as store:
            yield store

    def version(self) -> object | None:
        """What differs whenever the rows or what the topics say of jobs do; None where nobody knows."""
        rows = self.readers.version()
        return None if rows is None else (rows, self.jobs.version, self.jobs.is_complete)

    def close(self) -> None:
        """Close what it holds open."""
        self.readers.close()
        self.replies.close()

    def check_kafka(self) -> None:
        """Raise Problem 503 while Kafka is away."""
        if self.stream.away_because() is not None:
            raise Problem(503, "kafka-away", "Kafka does not answer: nothing can be ordered now, what is stored can be read", headers=AGAIN)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """To give orders inside: raises Problem 503 when Kafka is away, or does not confirm them in time; given again, they change nothing."""
        self.check_kafka()
        try:
            async with asyncio.timeout(_PUBLISH_S):
                yield
        except TimeoutError as error:
            raise Problem(503, "unconfirmed", f"Kafka did not confirm within {_PUBLISH_S:.0f} s; the order may stand: give it again", headers=AGAIN) from error

    async def publish(self, records: Iterable[Outgoing]) -> None:
        """Publish and wait for confirmation; raises as `writing` does."""
        async with self.writing():
            await self.stream.publish(records)


async def gateway_of(request: Request) -> Gateway:
    """The gateway that a request was made to."""
    gateway: Gateway = request.app.state.gateway
    return gateway


Here = Annotated[Gateway, Depends(gateway_of)]
"""The gateway, as a parameter of a route."""
