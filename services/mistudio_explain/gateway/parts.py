"""What a route of the gateway works with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from mistudio_explain.gateway.live import Live
from mistudio_explain.gateway.looks import Looked
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.settings import Settings
from mistudio_explain.store.deliveries import StoredDeliveries
from mistudio_explain.store.jobs import JobStore, reading, store_exists


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway's means: the process's stream application, where new ids come from, and what its routes have in common.

    `live` is what is read from Kafka for all clients, `lag` and `fleet` are looks at what is outside, `told` says who was told of jobs' ends.
    """

    stream: StreamApp
    new_id: Callable[[], str]
    live: Live
    lag: Looked
    fleet: Looked
    told: StoredDeliveries

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
        """The aggregator's rows, on a connection of its own to be used in one thread; None while no aggregator has made them.

        Blocks: for routes that run in a thread.
        """
        if not store_exists(self.settings.store):
            yield None
            return
        with reading(self.settings.store) as store:
            yield store


async def gateway_of(request: Request) -> Gateway:
    """The gateway that a request was made to."""
    gateway: Gateway = request.app.state.gateway
    return gateway


Here = Annotated[Gateway, Depends(gateway_of)]
"""The gateway, as a parameter of a route."""
