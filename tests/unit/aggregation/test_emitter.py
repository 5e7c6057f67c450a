"""What the emitter does when something fails, and how often it speaks of one job."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mistudio_explain.aggregation import emitter
from mistudio_explain.aggregation.emitter import Emitter
from mistudio_explain.aggregation.traces import JobTraces
from mistudio_explain.errors import MalformedEvent, Unreachable
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.kafka.records import Outgoing
from mistudio_explain.settings import ReportSettings, Settings

WAIT_S = 10.0


class Store:
    """Rows of jobs that change all the time; its outbox fails as often as it is told to."""

    def __init__(self, *jobs: str, errors: Iterable[Exception] = ()) -> None:
        self.jobs, self.errors, self.looks = jobs, iter(errors), 0

    def outbox(self) -> list[object]:
        self.looks += 1
        for error in self.errors:
            raise error
        return []

    def due(self) -> list[tuple[str, int, str | None]]:
        return [(job, self.looks, "completed") for job in self.jobs]

    def silent_since(self, _: int) -> list[object]:
        return []

    def deleted_before(self, _: int) -> list[object]:
        return []

    def reported(self, *_: object) -> None:
        pass


class Reports:
    """Every job is complete; the files of some cannot be written."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = errors

    def numbers(self, job: str, **_: object) -> JobReport:
        return JobReport(
            explain_job_id=job, status=JobStatus.COMPLETED, expected=1, expected_source="sealed", admitted=1, explained=1, skipped=0, failed=0, flagged=0,
            averages=Averages(), at_ms=0,
        )  # fmt: skip

    def with_files(self, report: JobReport) -> JobReport:
        if report.explain_job_id in self.errors:
            raise self.errors[report.explain_job_id]
        return report


@asynccontextmanager
async def at_work(store: Store, monkeypatch: pytest.MonkeyPatch, *, interval_s: float, errors: dict[str, Exception] | None = None) -> AsyncIterator[list[str]]:
    """The jobs that an emitter speaks of, one after the other."""
    for name, seconds in (("_TICK_S", 0.001), ("_BACKOFF_S", 0.01), ("_RETRY_S", 0.01)):
        monkeypatch.setattr(emitter, name, seconds)
    told: list[str] = []

    async def publish(records: Iterable[Outgoing]) -> None:
        told.extend(record.key for record in records if record.value is not None)

    async def is_same_log(_: float) -> bool:
        return True

    app: Any = SimpleNamespace(
        clients=SimpleNamespace(is_embedded=True), settings=Settings(reports=ReportSettings(interval_s=interval_s)), now_ms=lambda: 0, publish=publish
    )
    seat: Any = SimpleNamespace(store=store, is_building=False, confirm=lambda: None)
    reader: Any = SimpleNamespace(out_of_reach=None, is_same_log=is_same_log, traces=JobTraces())
    removal: Any = SimpleNamespace(is_due=lambda *_: False, is_done=lambda *_: False)
    reports: Any = Reports(errors or {})
    task = asyncio.create_task(Emitter(app, seat, reader, reports, removal).run())
    try:
        yield told
        assert not task.done(), "the emitter has ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_whatever_fails_the_emitter_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = (sqlite3.OperationalError("disk I/O error"), MalformedEvent("too large for its topic"), Unreachable("the disk is full"), KeyError("a bug"))
    store = Store("explain_1", errors=errors)
    async with at_work(store, monkeypatch, interval_s=0.1) as told:
        await until(lambda: bool(told))
    assert store.looks > len(errors)


async def test_what_fails_of_one_job_silences_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_work(Store("explain_1", "explain_2"), monkeypatch, interval_s=0.1, errors={"explain_1": KeyError("a bug")}) as told:
        await until(lambda: bool(told))
    assert set(told) == {"explain_2"}


async def test_an_ended_job_that_changes_all_the_time_is_reported_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("explain_1")
    async with at_work(store, monkeypatch, interval_s=60.0) as told:
        await until(lambda: store.looks > 20)
    assert told == ["explain_1"]


class Indexed:
    """Rows of which some wait to be indexed; as many come with every look."""

    def __init__(self, waiting: int, coming: int) -> None:
        self.waiting, self.coming, self.looks, self.indexed = waiting, coming, 0, 0

    def unindexed(self) -> int:
        self.looks += 1
        self.waiting += self.coming
        return self.waiting

    def index(self, limit: int) -> None:
        self.indexed += min(limit, self.waiting)
        self.waiting -= min(limit, self.waiting)


@pytest.mark.parametrize(("waiting", "coming", "is_indexed"), [(2500, 0, True), (0, 0, False), (10, 1, False), (emitter._MOST_UNINDEXED, 1, True)])
async def test_words_are_indexed_while_no_explanations_come_or_when_too_many_wait(
    monkeypatch: pytest.MonkeyPatch, waiting: int, coming: int, *, is_indexed: bool
) -> None:
    monkeypatch.setattr(emitter, "_TICK_S", 0.001)
    store = Indexed(waiting, coming)
    absent: Any = None
    seat: Any = SimpleNamespace(store=store, is_building=False)
    reader: Any = SimpleNamespace(out_of_reach=None)
    task = asyncio.create_task(Emitter(SimpleNamespace(clients=None), seat, reader, absent, absent).keep_index())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(WAIT_S):
            while store.looks < 20:
                await asyncio.sleep(0.001)
        assert bool(store.indexed) == is_indexed
        if not coming:
            assert store.waiting == 0
    finally:
        task.cancel()
