"""The replayer: orders on explain.jobs in; copies of features on explain.replays, and the seal after the last, out.

One of several replayers works at a time: the one that holds the partition of explain.jobs in the group. It reads the
topic whole, so that it finds what another left undone.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from mistudio_explain.errors import BadInput, ExplainError, MalformedEvent, told
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import JobEvent, SealedPart
from mistudio_explain.events.topics import JOBS, REPLAYS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.unreadable import TolerantFetch
from mistudio_explain.observability.metrics import EVENTS_OUT
from mistudio_explain.replay.begun import Begun
from mistudio_explain.replay.caught_up import store_has_read
from mistudio_explain.replay.copying import Copy, copied_already
from mistudio_explain.replay.selection import selection_of
from mistudio_explain.replay.stage import Order, Orders, Place, Selection, Tally, knows_how_many, notes_of, request_of

log = structlog.get_logger(__name__)

SERVICE = "replayer"
_POLL_MS = 100
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 30.0
_COMMIT_INTERVAL_S = 1.0
_ORDERS = TopicPartition(JOBS, 0)  # explain.jobs has one partition


class _NotOurs(Exception):
    """Another replayer leads."""


def register(app: StreamApp) -> None:
    """Run the orders for as long as the application runs."""

    async def replay() -> None:
        while True:
            try:
                await _lead(app)
            except (KafkaError, IllegalStateError, OSError, TimeoutError) as error:
                log.warning("replayer.waits", error=told(error), again_in_s=_BACKOFF_S)
                await asyncio.sleep(_BACKOFF_S)

    app.task(SERVICE, replay)


async def _lead(app: StreamApp) -> None:
    group = app.clients.group(SERVICE)
    arguments = app.clients.fetching | ({} if group is None else {"group_id": group, **app.clients.membership(JOBS)})
    async with app.clients.consumer(**arguments) as consumer:
        replayer = Replayer(app, consumer, group)
        try:
            await replayer.run()
        finally:
            await replayer.stop()


class Replayer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Runs one order after the other while it holds the partition of orders."""

    def __init__(self, app: StreamApp, consumer: AIOKafkaConsumer, group: str | None) -> None:
        self._app = app
        self._consumer = consumer
        self._group = group
        self._fetch = TolerantFetch()
        self._orders = Orders()
        self._leads = False
        self._goal: int | None = None
        """Where the topic ended when this process began to lead: before that is read, nothing is known for certain."""
        self._copying: tuple[Order, asyncio.Task[None]] | None = None
        self._not_before: dict[str, tuple[float, float]] = {}
        """By job: when it may be tried again, and how long it waited last."""
        self._begun = Begun()
        self._seen_alive = time.monotonic()
        self._committed = -1
        self._commit_due = 0.0

    async def run(self) -> None:
        """Follow the orders and run them; ends by an error only."""
        if self._group is not None:
            self._consumer.subscribe([JOBS], listener=self)
        else:
            self._consumer.assign([_ORDERS])
            await self.on_partitions_assigned([_ORDERS])
        while True:
            if self._leads and self._goal is None:
                await self._read_anew()
            was_reading = self._goal is not None
            fetched, unreadable = await self._fetch(self._consumer, sorted(self._consumer.assignment()), timeout_ms=_POLL_MS, max_records=None)
            if not was_reading or self._goal is None:  # it began to lead just now, and reads from the first order on
                continue
            for record in unreadable:
                _say_unreadable(record, "the name of a header is not UTF-8")
            for records in fetched.values():
                self._take(records)
            if self._leads and await self._consumer.position(_ORDERS) >= self._goal:
                await self._turn()
                await self._commit_when_due()

    async def stop(self) -> None:
        """Let go of what is being copied; whoever leads next finds what was copied."""
        self._leads = False
        if self._copying is not None:
            task = self._copying[1]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Stop at once: another may lead from now on."""
        self._leads = False
        if revoked and self._copying is not None:
            log.warning("replayer.lost_lead", job=self._copying[0].event.explain_job_id)
            self._copying[1].cancel()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin to lead, once everything is read anew."""
        if _ORDERS in assigned:
            self._orders, self._goal, self._leads = Orders(), None, True
            self._seen_alive = time.monotonic()

    async def _read_anew(self) -> None:
        if self._group is not None:
            stored = await committed_offsets(self._app.admin, self._group, [_ORDERS])
            self._begun = Begun.read(stored[_ORDERS][1] if _ORDERS in stored else None)
        goal: int = (await self._consumer.end_offsets([_ORDERS]))[_ORDERS]
        if _ORDERS in self._consumer.assignment():
            self._consumer.seek(_ORDERS, 0)
            self._goal = goal

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                event = None if record.value is None else decode(JobEvent, record.value)
            except MalformedEvent as error:
                _say_unreadable(record, str(error))
                continue
            self._orders.take((record.key or b"").decode("utf-8", "replace"), event, record.offset)

    async def _turn(self) -> None:
        """Look after the order that is being run, or begin the next."""
        if self._copying is not None:
            order, task = self._copying
            if task.done():
                self._copying = None
                self._ended(order, task)
            elif self._orders.is_cancelled(order.event):
                log.info("replay.cancelled", job=order.event.explain_job_id)
                task.cancel()
            return
        now = time.monotonic()
        due = next((order for order in self._orders.open() if self._not_before.get(order.event.explain_job_id, (0.0, 0.0))[0] <= now), None)
        if due is not None:
            self._copying = due, asyncio.create_task(self._execute(due))

    def _ended(self, order: Order, task: asyncio.Task[None]) -> None:
        job = order.event.explain_job_id
        if task.cancelled() or isinstance(task.exception(), _NotOurs):
            return
        error = task.exception()
        if error is None:
            self._not_before.pop(job, None)
            return
        wait = min(2 * self._not_before.get(job, (0.0, _BACKOFF_S / 2))[1], _LONGEST_BACKOFF_S)
        self._not_before[job] = time.monotonic() + wait, wait
        unforeseen = None if isinstance(error, KafkaError | OSError | ExplainError) else error
        log.warning("replay.tried_again", job=job, error=told(error), again_in_s=wait, exc_info=unforeseen)

    async def _execute(self, order: Order) -> None:
        job = order.event.explain_job_id
        await store_has_read(self._app.clients, self._app.settings.store, job=job)
        try:
            selection = await asyncio.to_thread(selection_of, self._app.settings.store, order.part)
        except BadInput as error:  # nobody but who ordered it can mend that
            log.error("replay.refused", job=job, why=str(error))
            await self._seal(order, Tally(wanted=0), [f"nothing was replayed: {error}"])
            return
        already = await self._copied_already(order)
        log.info("replay.started", job=job, features=len(selection.places), copied_before=len(already))
        tally = await self._copy(order, selection, already)
        await self._held()
        notes = notes_of(tally, selection)
        await self._seal(order, tally, notes)
        log.info("replay.ended", job=job, copied=tally.copied, copied_before=tally.earlier, notes=notes)

    async def _copied_already(self, order: Order) -> set[Place]:
        """What was copied by somebody who began this order before; that it is begun now is committed before the first copy."""
        already = await copied_already(self._app.clients, order.event) if self._begun.may_hold(order.event) else set()
        self._begun = self._begun.and_now(order.event, (each.event for each in self._orders.open()))
        if self._group is not None:
            await self._commit()
        return already

    async def _copy(self, order: Order, selection: Selection, already: set[Place]) -> Tally:
        expected = len(selection.places) if knows_how_many(order.part) else None
        request = request_of(order.event, order.request, expected)
        copy = Copy(selection, order.part.from_job, request, order.part)
        told = EVENTS_OUT.labels(topic=REPLAYS).inc
        return await copy.run(self._app.clients, self._app.producer, already, held=self._held, told=told)

    async def _seal(self, order: Order, tally: Tally, notes: list[str]) -> None:
        event = order.event
        part = SealedPart(expected=tally.sent, notes=notes)
        sealed = JobEvent(explain_job_id=event.explain_job_id, revision=event.revision, tenant=event.tenant, at_ms=self._app.now_ms(), sealed=part)
        await self._app.publish([outgoing(sealed)])
        self._orders.take(sealed.key, sealed, order.offset)  # it comes back on the topic, but maybe after the next turn

    async def _held(self) -> None:
        """Return while this process leads.

        After a pause in which another may have taken over (a frozen process, a swapped one) the group is asked first.
        """
        if not self._leads:
            raise _NotOurs
        now = time.monotonic()
        if self._group is not None and now - self._seen_alive > self._app.settings.kafka.session_timeout_ms / 3000:
            await self._commit()
        self._seen_alive = now

    async def _commit_when_due(self) -> None:
        if self._group is not None and time.monotonic() >= self._commit_due:
            self._commit_due = time.monotonic() + _COMMIT_INTERVAL_S
            if await self._done_before() != self._committed:
                await self._commit()

    async def _commit(self) -> None:
        """Commit, so that lag tools see the orders that wait; refused when another leads."""
        offset = await self._done_before()
        await self._consumer.commit({_ORDERS: (offset, self._begun.metadata)})
        self._committed = offset

    async def _done_before(self) -> int:
        return next((order.offset for order in self._orders.open()), int(await self._consumer.position(_ORDERS)))


def _say_unreadable(record: ConsumerRecord, error: str) -> None:
    log.error("replayer.unreadable", topic=record.topic, partition=record.partition, offset=record.offset, error=error)
