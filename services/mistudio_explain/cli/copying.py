"""Shows how far a replay is copied: a bar on a terminal, plain lines otherwise, JSON lines for scripts."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, KafkaError, for_code
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mistudio_explain.cli.show import console, error_line, print_json
from mistudio_explain.errors import ExplainError, MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import JobEvent, JobPart, SealedPart
from mistudio_explain.events.topics import JOBS, REPLAYS
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import HEADER_JOB, header_of
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.unreadable import TolerantFetch
from mistudio_explain.replay.service import SERVICE

_POLL_MS = 200
_WAIT_S = 5.0  # without a copy, before it is asked whether there is a replayer
_AGAIN_S = 0.2
_LINE_S = 5.0  # between two lines where there is no terminal
_FETCH_BYTES = 1 << 20


@asynccontextmanager
async def follow_copies(clients: KafkaClients, job: str) -> AsyncIterator[AsyncIterator[int | SealedPart]]:
    """Attach before a replay is ordered: inside, iterate over how many more features were copied, at least every turn, until the seal."""
    async with clients.consumer(**clients.fetching | {"max_partition_fetch_bytes": _FETCH_BYTES}) as consumer:
        partitions = await partitions_of(consumer, (JOBS, REPLAYS))
        consumer.assign(partitions)
        end = await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, end[tp])
        yield _copies(consumer, job)


async def _copies(consumer: AIOKafkaConsumer, job: str) -> AsyncIterator[int | SealedPart]:
    keys, name = {f"{job}|{part}".encode() for part in (JobPart.SEALED, JobPart.CONTROL)}, job.encode()
    fetch = TolerantFetch()
    while True:
        seal: SealedPart | None = None
        copied = 0
        for tp, records in (await fetch.readable(consumer, timeout_ms=_POLL_MS)).items():
            if tp.topic == REPLAYS:
                copied += sum(header_of(record, HEADER_JOB) == name for record in records)
                continue
            for event in _parts(record for record in records if record.key in keys):
                seal = event.sealed or seal
                if event.control is not None and event.control.action != "reopen":
                    raise ExplainError(f"{job} was cancelled or deleted while it was copied; what was sent is passed over")
        yield copied
        if seal is not None:
            yield seal
            return


def _parts(records: Iterable[ConsumerRecord]) -> Iterator[JobEvent]:
    for record in records:
        try:
            if record.value is not None:
                yield decode(JobEvent, record.value)
        except MalformedEvent as error:
            error_line(f"{record.topic}/{record.partition}/{record.offset}: {error}")


@dataclass
class Shown:
    """What a person or a script is shown of one replay; `of` is how many features it will have, where that is known."""

    job: str
    as_json: bool
    of: int | None
    count: int = 0
    _bar: Progress | None = None
    _task: TaskID | None = None
    _started: float = 0.0
    _line_due: float = 0.0

    def ordered(self) -> None:
        """The order stands."""
        if self.as_json:
            print_json({"event": "ordered", "explain_job_id": self.job, "features": self.of})
        else:
            many = "features" if self.of is None else f"{self.of} features"
            console().print(f"ordered {self.job}: {many}; follow the explanations with `mistudio-explain watch {self.job}`")

    @contextmanager
    def bar(self) -> Iterator[None]:
        """Show progress while inside."""
        silent = self.as_json or not sys.stderr.isatty()
        columns = (TextColumn("copied"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
        self._started = time.monotonic()
        with Progress(*columns, console=console(stderr=True), disable=silent, transient=True) as self._bar:
            self._task = self._bar.add_task("copied", total=self.of, rate="")
            yield

    def copied(self, more: int) -> None:
        """Some more features were sent."""
        self.count += more
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            elapsed = now - self._started
            self._bar.update(self._task, completed=self.count, rate=f"{self.count / elapsed:.0f}/s" if elapsed > 1 else "")
        if more and now >= self._line_due and (self._bar is None or self._bar.disable):
            self._line_due = now + _LINE_S
            self._line()

    def _line(self) -> None:
        if self.as_json:
            print_json({"event": "copied", "explain_job_id": self.job, "copied": self.count, "of": self.of})
        else:
            console().print(f"copied {self.count} of {'?' if self.of is None else self.of}")

    async def until_sealed(self, copies: AsyncIterator[int | SealedPart], clients: KafkaClients) -> SealedPart:
        """Show copies until the seal comes."""
        heard = time.monotonic()
        told = False
        with self.bar():
            async for event in copies:
                if isinstance(event, SealedPart):
                    return event
                self.copied(event)
                if event:
                    heard = time.monotonic()
                elif not told and time.monotonic() - heard > _WAIT_S:
                    told = True
                    self._waits(await _replayers(clients))
        raise AssertionError("a replay is followed until its seal")

    def _waits(self, replayers: int | None) -> None:
        why = {
            None: "nothing was copied yet; a replayer must run: `mistudio-explain serve replayer`",
            0: "no replayer runs; the order stands and waits for one: start it with `mistudio-explain serve replayer`",
        }.get(replayers, "the replayer has not begun yet: it runs one replay after the other")
        if self.as_json:
            print_json({"event": "waiting", "explain_job_id": self.job, "replayers": replayers, "why": why})
        else:
            (self._bar.console if self._bar is not None and not self._bar.disable else console()).print(why)

    def sealed(self, part: SealedPart) -> None:
        """All that could be sent was sent."""
        if self.as_json:
            print_json({"event": "sealed", "explain_job_id": self.job, "features": part.expected, "notes": part.notes})
            return
        console().print(f"{self.job} has {part.expected} features; follow it with `mistudio-explain watch {self.job}`")
        for note in part.notes:
            error_line(note)


async def _replayers(clients: KafkaClients) -> int | None:
    """How many replayers there are; None when the broker does not say."""
    group = clients.group(SERVICE)
    if group is None:
        return None
    try:
        async with clients.admin() as admin, asyncio.timeout(_WAIT_S):
            while True:
                if (members := await _members(admin, group)) is not None:
                    return members
                await asyncio.sleep(_AGAIN_S)
    except (KafkaError, OSError, TimeoutError):
        return None


async def _members(admin: AIOKafkaAdminClient, group: str) -> int | None:
    """How many members a group has; None while its coordinator comes up, as it does for the first group of a new cluster."""
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return None
    ((code, _, _, _, _, members, *_),) = answer.groups
    if code == GroupCoordinatorNotAvailableError.errno or code == GroupLoadInProgressError.errno:
        return None
    if code:
        raise for_code(code)(group)
    return len(members)
