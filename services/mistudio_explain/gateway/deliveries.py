"""Tells receivers when jobs are at their end, at least once each, however long a receiver or Kafka is away.

When a message is tried next stands beside the store: several gateways share the work, one at a time tries a message, and what one
leaves when it ends another goes on with.
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog
from aiokafka.errors import KafkaError

from mistudio_explain.errors import ExplainError, MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import JobReport
from mistudio_explain.events.topics import REPORTS
from mistudio_explain.gateway.feed import Feed, Subject
from mistudio_explain.gateway.notice import is_told, key_of, notice, notice_id, signed
from mistudio_explain.gateway.outbound import Destination, NotAccepted, destination, post
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.observability.metrics import WEBHOOKS
from mistudio_explain.settings import WebhookSettings, read_secret
from mistudio_explain.store.deliveries import ACCEPTED, GIVEN_UP, PENDING, Delivery, StoredDeliveries

log = structlog.get_logger(__name__)

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 600.0
_LEASE_MS = 60_000
"""Whoever takes a message has tried it by then, which takes `outbound.WITHIN_S` at most, or is gone."""
_LOOK_S = 5.0  # how soon what another gateway took up, or left when it ended, is noticed
_SWEEP_S = 60.0
_BACKOFF_S = 5.0
_AT_ONCE = 4  # to one receiver, by one gateway
_KEPT_MS = 30 * 24 * 3_600_000

Post = Callable[[Destination, bytes, Mapping[str, str], ssl.SSLContext], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver, checked."""

    name: str
    tenant: str
    to: Destination
    key: bytes
    context: ssl.SSLContext


def receivers_of(settings: WebhookSettings) -> tuple[Receiver, ...]:
    """The receivers of the settings; raises BadSettings for an address or a secret that cannot be used."""
    return tuple(
        Receiver(
            each.name,
            each.tenant,
            destination(each.url, settings.networks),
            key_of(read_secret(each.secret_file), each.name),
            ssl.create_default_context(cafile=settings.ssl_cafile),
        )
        for each in settings.receivers
    )


class Deliveries:
    """Keeps what is to be told beside the store, and tells it."""

    def __init__(
        self, settings: WebhookSettings, stored: StoredDeliveries, feed: Feed, clients: KafkaClients, now_ms: Callable[[], int], *, post: Post = post
    ) -> None:
        self._receivers = {each.name: each for each in receivers_of(settings)}
        self._give_up_ms = int(settings.give_up_h * 3_600_000)
        self._stored = stored
        self._feed = feed
        self._clients = clients
        self._now_ms = now_ms
        self._post = post
        self._since: dict[str, int] = {}
        self._trying: Counter[str] = Counter()
        """How many messages are being sent to each receiver."""
        self._news = asyncio.Event()

    @property
    def has_receivers(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._receivers)

    async def run(self) -> None:
        """Take up what is to be told, and tell it, for ever."""
        async with asyncio.TaskGroup() as attempts:
            attempts.create_task(_for_ever(self._listen, _BACKOFF_S))
            attempts.create_task(_for_ever(self._forget, _BACKOFF_S))
            await _for_ever(lambda: self._tell(attempts), _BACKOFF_S)

    async def _listen(self) -> None:
        """Hear of jobs: of those that stand in the topic, then of those that come."""
        with self._feed.listening([Subject(REPORTS, None)]) as listener:  # first, so that what is read meanwhile is heard too
            await self._feed.has_begun.wait()
            for name in self._receivers:
                self._since[name] = await asyncio.to_thread(self._stored.since, name, self._now_ms())
            async with standing(self._clients, REPORTS) as snapshot:
                async for record in snapshot:
                    await self._hear(record.value)
            while listener.ended is None:
                for entry in await listener.take(_SWEEP_S):
                    await self._hear(entry.value)

    async def _hear(self, value: bytes | None) -> None:
        try:
            report = None if value is None else decode(JobReport, value)
        except MalformedEvent:  # for the reader of the topic to say
            return
        if report is None or not is_told(report):
            return
        body, now_ms = notice(report), self._now_ms()
        for receiver in self._receivers.values():
            if receiver.tenant != report.tenant or report.at_ms < self._since[receiver.name]:
                continue
            delivery = Delivery(notice_id(report), receiver.name, report.explain_job_id, report.tenant, PENDING, now_ms, now_ms, 0, None)
            if await asyncio.to_thread(self._stored.add, delivery, body):
                self._news.set()

    async def _forget(self) -> None:
        while True:
            await asyncio.to_thread(self._stored.forget, self._now_ms() - _KEPT_MS)
            await asyncio.sleep(_SWEEP_S)

    async def _tell(self, attempts: asyncio.TaskGroup) -> None:
        """Try what is to be tried, then wait until something is."""
        while True:
            self._news.clear()
            wait_s = _LOOK_S
            for receiver in self._receivers.values():
                free = _AT_ONCE - self._trying[receiver.name]
                if free == 0:
                    continue  # the next attempt that ends brings news
                for delivery, body in await self._taken(receiver, free):
                    self._trying[receiver.name] += 1
                    attempts.create_task(self._attempt(receiver, delivery, body))
                due_in_ms = await asyncio.to_thread(self._stored.due_in_ms, receiver.name)
                wait_s = wait_s if due_in_ms is None else min(wait_s, due_in_ms / 1000)
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _taken(self, receiver: Receiver, limit: int) -> list[tuple[Delivery, bytes]]:
        taking = asyncio.ensure_future(asyncio.to_thread(self._stored.take_due, receiver.name, limit, _LEASE_MS))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:  # this process ends: nobody is to wait for the lease of what it does not try
            for delivery, _ in await taking:
                await self._note(delivery)
            raise

    async def _attempt(self, receiver: Receiver, delivery: Delivery, body: bytes) -> None:
        """Send a message once, and note how that ended."""
        tried = replace(delivery, tried_ms=self._now_ms(), attempts=delivery.attempts + 1)
        try:
            await self._post(receiver.to, body, signed(receiver.key, delivery.id, body, self._now_ms() // 1000), receiver.context)
        except NotAccepted as error:
            WEBHOOKS.labels(receiver=receiver.name, result="refused").inc()
            await self._refused(replace(tried, said=str(error)), error)
        except asyncio.CancelledError:  # this process ends: whoever starts next, or runs, tries it again at once
            await self._note(delivery)
            raise
        else:
            WEBHOOKS.labels(receiver=receiver.name, result="accepted").inc()
            await self._note(replace(tried, state=ACCEPTED, said="accepted"))
        finally:
            self._trying[receiver.name] -= 1
            self._news.set()

    async def _refused(self, tried: Delivery, error: NotAccepted) -> None:
        wait_ms = int(1000 * _wait_s(tried.attempts, error.wait_s))
        gives_up = not error.repeatable or self._now_ms() + wait_ms > tried.made_ms + self._give_up_ms
        if gives_up:
            log.error("webhook.given_up", receiver=tried.receiver, job=tried.job, id=tried.id, why=tried.said)
            await self._note(replace(tried, state=GIVEN_UP))
        else:
            log.warning("webhook.not_accepted", receiver=tried.receiver, job=tried.job, id=tried.id, why=tried.said)
            await self._note(tried, wait_ms)

    async def _note(self, delivery: Delivery, again_in_ms: int = 0) -> None:
        try:
            await asyncio.to_thread(self._stored.tried, delivery, again_in_ms)
        except ExplainError as error:  # it is sent again once the lease is over, with the same id
            log.warning("webhook.not_noted", receiver=delivery.receiver, job=delivery.job, id=delivery.id, error=str(error))


async def _for_ever(work: Callable[[], Awaitable[None]], backoff_s: float) -> None:
    """Do a work again after it ended or something that it needs was away."""
    while True:
        try:
            await work()
        except (ExplainError, KafkaError, OSError) as error:
            log.warning("webhooks.wait", error=repr(error), again_in_s=backoff_s)
            await asyncio.sleep(backoff_s)


def _wait_s(attempts: int, asked_s: float | None) -> float:
    """How long to wait after so many attempts: as the receiver asks, else twice as long each time, less up to a half, so that not all come back at once."""
    if asked_s is not None:
        return min(max(asked_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
    doubled: float = min(_FIRST_WAIT_S * 2 ** min(attempts - 1, 30), _LONGEST_WAIT_S)
    return doubled * (1 - random.random() / 2)  # noqa: S311 - no secret
