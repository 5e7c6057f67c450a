"""Tells receivers when jobs are at their end, at least once each, however long a receiver or Kafka is away."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import stamina
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
_ABANDONED_MS = int(1000 * (2 * _LONGEST_WAIT_S + 60))
"""A pending message that was not tried for so long is another gateway's that ended."""
_SWEEP_S = 60.0
_BACKOFF_S = 5.0
_AT_ONCE = 4  # to one receiver
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
    turns: asyncio.Semaphore


def receivers_of(settings: WebhookSettings) -> tuple[Receiver, ...]:
    """The receivers of the settings; raises BadSettings for an address or a secret that cannot be used."""
    return tuple(
        Receiver(
            each.name,
            each.tenant,
            destination(each.url, settings.networks),
            key_of(read_secret(each.secret_file), each.name),
            ssl.create_default_context(cafile=settings.ssl_cafile),
            asyncio.Semaphore(_AT_ONCE),
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

    @property
    def has_receivers(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._receivers)

    async def run(self) -> None:
        """Take up what is to be told, and tell it, for ever."""
        async with asyncio.TaskGroup() as telling:
            telling.create_task(self._sweep(telling))
            while True:
                try:
                    await self._listen(telling)
                except (ExplainError, KafkaError, OSError) as error:
                    log.warning("webhooks.wait", error=repr(error), again_in_s=_BACKOFF_S)
                    await asyncio.sleep(_BACKOFF_S)

    async def _listen(self, telling: asyncio.TaskGroup) -> None:
        """Hear of jobs: of those that stand in the topic, then of those that come."""
        with self._feed.listening([Subject(REPORTS, None)]) as listener:  # first, so that what is read meanwhile is heard too
            await self._feed.has_begun.wait()
            for name in self._receivers:
                self._since[name] = await asyncio.to_thread(self._stored.since, name, self._now_ms())
            async with standing(self._clients, REPORTS) as snapshot:
                async for record in snapshot:
                    await self._hear(record.value, telling)
            while listener.ended is None:
                for entry in await listener.take(_SWEEP_S):
                    await self._hear(entry.value, telling)

    async def _hear(self, value: bytes | None, telling: asyncio.TaskGroup) -> None:
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
                telling.create_task(self._tell(receiver, delivery, body))

    async def _sweep(self, telling: asyncio.TaskGroup) -> None:
        """Take up what this or another gateway left when it ended."""
        before_ms = self._now_ms() + 1  # at the start everything: nobody else tries what this machine's gateway left
        while True:
            try:
                for delivery, body in await asyncio.to_thread(self._stored.take_up, before_ms, self._now_ms()):
                    if delivery.receiver in self._receivers:
                        telling.create_task(self._tell(self._receivers[delivery.receiver], delivery, body))
                await asyncio.to_thread(self._stored.forget, self._now_ms() - _KEPT_MS)
            except ExplainError as error:
                log.warning("webhooks.wait", error=str(error), again_in_s=_SWEEP_S)
            await asyncio.sleep(_SWEEP_S)
            before_ms = self._now_ms() - _ABANDONED_MS

    async def _tell(self, receiver: Receiver, delivery: Delivery, body: bytes) -> None:
        """Send a message until it is accepted, it is given up, or this process ends."""
        left_s = max(1.0, (delivery.made_ms + self._give_up_ms - self._now_ms()) / 1000)
        before = delivery.attempts
        try:
            async for attempt in stamina.retry_context(
                on=_wait, attempts=None, timeout=left_s, wait_initial=_FIRST_WAIT_S, wait_max=_LONGEST_WAIT_S, wait_jitter=_FIRST_WAIT_S
            ):
                with attempt:
                    delivery = replace(delivery, attempts=before + attempt.num)
                    await self._attempt(receiver, delivery, body)
        except NotAccepted as error:
            await self._note(replace(delivery, state=GIVEN_UP, tried_ms=self._now_ms(), said=str(error)))
            log.error("webhook.given_up", receiver=receiver.name, job=delivery.job, id=delivery.id, why=str(error))

    async def _attempt(self, receiver: Receiver, delivery: Delivery, body: bytes) -> None:
        tried = replace(delivery, tried_ms=self._now_ms())
        try:
            async with receiver.turns:
                await self._post(receiver.to, body, signed(receiver.key, delivery.id, body, self._now_ms() // 1000), receiver.context)
        except NotAccepted as error:
            WEBHOOKS.labels(receiver=receiver.name, result="refused").inc()
            log.warning("webhook.not_accepted", receiver=receiver.name, job=delivery.job, id=delivery.id, why=str(error))
            await self._note(replace(tried, said=str(error)))
            raise
        WEBHOOKS.labels(receiver=receiver.name, result="accepted").inc()
        await self._note(replace(tried, state=ACCEPTED, said="accepted"))

    async def _note(self, delivery: Delivery) -> None:
        try:
            await asyncio.to_thread(self._stored.tried, delivery)
        except ExplainError as error:  # it is sent again after the next start, with the same id
            log.warning("webhook.not_noted", receiver=delivery.receiver, job=delivery.job, id=delivery.id, error=str(error))


def _wait(error: Exception) -> bool | float:
    """Whether it is worth another attempt, and after how many seconds where the receiver says so."""
    if not isinstance(error, NotAccepted) or not error.repeatable:
        return False
    return True if error.wait_s is None else min(max(error.wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
