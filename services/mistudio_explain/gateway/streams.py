"""Live events: how far jobs are, and explanations as they come, as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.events.topics import EXPLANATIONS, REPORTS
from mistudio_explain.gateway import sse
from mistudio_explain.gateway.access import Reader
from mistudio_explain.gateway.feed import Subject, topics_of
from mistudio_explain.gateway.live import Live, Over
from mistudio_explain.gateway.names import JobId
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.position import Position
from mistudio_explain.gateway.problems import Problem, no_such_job
from mistudio_explain.gateway.told import Standing, Told, by_partition, progress
from mistudio_explain.observability.metrics import STREAMS_DROPPED

router = APIRouter(tags=["live"])

_APPEARS_WITHIN_S = 2.0  # the aggregator has a job in its rows some tenths of a second after it was published
_LOOK_S = 0.1
_SAY_S = 5.0
_AGAIN_S = 5

LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", description="The id of the last event seen: the stream goes on behind it.")]
After = Annotated[str | None, Query(description="The same, for clients that cannot set the header when they first connect.")]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "Server-sent events, until the client or the job is at its end."}
}


@router.get("/events", response_class=Response, responses=EVENTS)
async def follow_jobs(gateway: Here, caller: Reader, last_event_id: LastEvent = None, after: After = None) -> Response:
    """Follow all jobs: `progress` of each that moves, `removed` of each that is deleted.

    What stands is listed by GET /jobs; read it after `ready`, and nothing is missed.
    """
    seen = _position(last_event_id or after)
    return _stream(gateway, _all_jobs(gateway.live, caller.tenant, seen))


@router.get("/jobs/{job}/events", response_class=Response, responses=EVENTS)
async def follow_job(
    gateway: Here,
    caller: Reader,
    job: JobId,
    last_event_id: LastEvent = None,
    after: After = None,
    explanations: Annotated[bool, Query(description="Send each `explanation` as it comes, too.")] = False,
) -> Response:
    """Follow a job to its end: `progress` as it stands and whenever it moves, `explanation` where these are asked for, `end`."""
    seen = _position(last_event_id or after)
    if await _appeared(gateway, job, caller.tenant) is None:
        raise no_such_job(job)
    subjects = [Subject(REPORTS, job), *([Subject(EXPLANATIONS, job)] if explanations else [])]
    return _stream(gateway, _one_job(gateway, job, caller.tenant, subjects, seen))


def _position(text: str | None) -> Position | None:
    return Position.read(text) if text else None


def _stream(gateway: Gateway, chunks: AsyncGenerator[bytes]) -> Response:
    if gateway.live.feed.clients >= gateway.settings.gateway.streams:
        raise Problem(503, "too-many-streams", "as many clients listen as gateway.streams allows; try again later", headers={"retry-after": str(_AGAIN_S)})
    return sse.EventStream(chunks)


@dataclass(frozen=True, slots=True)
class _Job:
    """A job as the store has it."""

    report: JobReport
    has_ended: bool
    """Whether its last report was published, with the files that it names."""
    read: tuple[int, ...]
    """The next offset of explain.explanations that the store has not seen, by partition."""


def _standing(gateway: Gateway, job: str, tenant: str) -> _Job | None:
    """A job as it stands; None for one that is not there or is another tenant's. Blocks."""
    with gateway.reading() as store:
        state = None if store is None or not store.is_of(job, tenant) else store.state(job)
        if store is None or state is None:
            return None
        with closing(JobReports(lambda: store, gateway.settings)) as reports:
            report = reports.numbers(job, now_ms=gateway.now_ms())
        if report is None:
            return None
        return _Job(report, store.reported_status(job) not in (None, JobStatus.RUNNING), by_partition(store.positions(EXPLANATIONS)))


async def _appeared(gateway: Gateway, job: str, tenant: str) -> _Job | None:
    """A job as it stands, as soon as the aggregator has heard of it: whoever made it may follow it at once."""
    for _ in range(round(_APPEARS_WITHIN_S / _LOOK_S)):
        if (standing := await asyncio.to_thread(_standing, gateway, job, tenant)) is not None:
            return standing
        await asyncio.sleep(_LOOK_S)
    return None


async def _all_jobs(live: Live, tenant: str, seen: Position | None) -> AsyncGenerator[bytes]:
    async with aclosing(_until_begun(live)) as waiting:
        async for chunk in waiting:
            yield chunk
    seen = seen or _now(live)
    yield sse.event("ready", {}, seen)
    async with aclosing(_heard(live, [Subject(REPORTS, None)], seen, lambda told: told.concerns(tenant))) as events:
        async for chunk, _, _ in events:
            yield chunk


async def _one_job(gateway: Gateway, job: str, tenant: str, subjects: Sequence[Subject], seen: Position | None) -> AsyncGenerator[bytes]:
    live, topics = gateway.live, topics_of(subjects)
    async with aclosing(_until_begun(live)) as waiting:
        async for chunk in waiting:
            yield chunk
    now = _now(live)
    standing = await asyncio.to_thread(_standing, gateway, job, tenant)  # read later than `now`: what came before is in it
    if standing is None:
        yield sse.event("end", {"status": "deleted"}, now)
        return
    begins = seen is None
    seen = seen or replace(now, explanations=standing.read or now.explanations)  # what the store has is read from it, the rest comes as events
    yield sse.event("ready", {}, seen)
    as_it_stands = progress(standing.report)
    if begins:
        yield sse.identified(seen) + as_it_stands.block
    ending = _Ending(standing.report.status, now.joined(_counted(now, as_it_stands.standing))) if standing.has_ended else None
    async with aclosing(_heard(live, subjects, seen, lambda told: told.tenant in (tenant, None))) as events:
        async for chunk, told, position in events:
            yield chunk
            for each in told:
                if each.standing is not None:
                    ending = _Ending(each.standing.status, _counted(now, each.standing)) if each.standing.is_end else None
            if ending is not None and position.has_seen(ending.at, topics):
                yield sse.event("end", {"status": ending.status}, position)
                return


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a job ended, and what must have been sent before that is said."""

    status: str
    at: Position


def _counted(now: Position, standing: Standing | None) -> Position:
    """The explanations that a job's report counts."""
    return Position(now.log, (), standing.counted if standing is not None else ())


def _now(live: Live) -> Position:
    assert live.feed.position is not None
    return live.feed.position


async def _until_begun(live: Live) -> AsyncGenerator[bytes]:
    """Say why nothing comes yet, again and again until the topics are read."""
    while await live.begun(_SAY_S) is None:
        yield sse.event("waiting", {"why": live.away_because()})


async def _heard(
    live: Live, subjects: Sequence[Subject], seen: Position, concerns: Callable[[Told], bool]
) -> AsyncGenerator[tuple[bytes, Sequence[Told], Position]]:
    """What comes, as bytes to send, what it is, and the position then; what is not of concern only moves the position on."""
    why = None
    while True:
        async with aclosing(live.since(seen, subjects)) as coming:
            async for heard in coming:
                if isinstance(heard, Over):
                    over = heard
                    break
                seen = heard.position
                told = [(entry, each, position) for entry, position in heard.entries if (each := entry.told) is not None and concerns(each)]
                chunk = b"".join(
                    part for entry, each, position in told for part in (entry.identified if position is entry.after else sse.identified(position), each.block)
                )
                if not heard.entries:
                    chunk = sse.heartbeat(seen)
                    if (now := live.away_because()) != why:
                        why = now
                        chunk = sse.event("waiting", {"why": why}, seen)
                yield chunk, [each for _, each, _ in told], seen
        if not over.is_lost:
            STREAMS_DROPPED.labels(why="let go").inc()
            yield sse.event("dropped", {"why": over.why}), (), seen
            return
        seen = _now(live)
        yield sse.event("reset", {"why": over.why}, seen), (), seen
