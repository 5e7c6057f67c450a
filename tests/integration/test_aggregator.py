"""The aggregator on a real Kafka: exact whatever becomes of it, of its store and of its topics; jobs at their end."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from integration.aggregating import JOB, SOON, WAIT_S, Aggregating, admitted, explained, failed, requested, reviewed, sealed, settled
from integration.foreign_headers import send_with_foreign_header
from integration.real_kafka import RealKafka
from integration.real_postgres import RealPostgres
from mistudio_explain.aggregation.reader import EVENTS
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import DeadLetter, ExplanationDrafted, Generation
from mistudio_explain.events.job import ControlPart, Coordinates, JobBackground, JobEvent, JobReport, JobStatus
from mistudio_explain.kafka.records import HEADER_FEATURE, HEADER_JOB, Outgoing, outgoing
from mistudio_explain.llm.answers_cache import KeptAnswer
from mistudio_explain.settings import JobSettings, KafkaSettings, LimitSettings, ReportSettings, Settings, StoreSettings
from mistudio_explain.store.answers import StoredAnswers
from mistudio_explain.store.beside import file_beside
from mistudio_explain.store.jobs import Change, JobStore, open_store, reading
from mistudio_explain.store.postgres import SCHEMA, session
from mistudio_explain.store.seat import Seat

FILES = ("feature_explanations.json", "explanation_results.json", "explanations.csv")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


@pytest.fixture
def at_work(clean_kafka: RealKafka, store: StoreSettings, tmp_path: Path) -> Aggregating:
    return Aggregating(
        Settings(
            kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, partitions=2),
            store=store,
            reports=ReportSettings(directory=tmp_path / "out", interval_s=0.1),
            limits=LimitSettings(quiet_s=2.0),
        )
    )


sqlite_only = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def drop(store: StoreSettings) -> None:
    """Lose the store, as a disk does."""
    if store.url.startswith("sqlite"):
        path = Path(store.url.removeprefix("sqlite:///"))
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()
    else:
        with session(store) as connection:
            connection.execute(f"drop schema {SCHEMA} cascade".encode())


def numbers(report: JobReport) -> JobReport:
    return report.model_copy(update={"at_ms": 0, "as_of": {}, "artefacts": []})


def files_of(at_work: Aggregating, job: str = JOB) -> dict[str, bytes]:
    return {name: (at_work.settings.reports.directory / job / name).read_bytes() for name in FILES}


def is_complete(report: JobReport) -> bool:
    return report.status is JobStatus.COMPLETED


async def test_a_store_that_is_lost_is_rebuilt_from_compacted_topics_with_the_same_counters_and_the_same_bytes(at_work: Aggregating) -> None:
    """Winners that came late, that came twice, and that were overwritten by losers in the topics."""
    await at_work.make_topics(**{name.replace(".", "_"): value for name, value in SOON.items()})
    async with at_work.aggregator():
        await at_work.write(requested(), *(admitted(n) for n in range(20)), *(failed(n) for n in range(10)))
        await at_work.write(*(explained(n, p=n / 20) for n in range(20)))
        await at_work.write(explained(3, p=3 / 20), failed(5, revision=4), reviewed(3, "wrong"), reviewed(3), reviewed(4, "partly"), sealed(20))
        before = await at_work.until_reported(is_complete)
        await at_work.until_stored(lambda rows: rows.positions(topics.EXPLANATIONS) != {})
        await settled(lambda: _is_silent(at_work))
        before = (await at_work.reports())[-1]
        written = files_of(at_work)
    assert (before.explained, before.failed, before.admitted, before.expected, before.revision) == (20, 0, 20, 20, 0)
    assert (before.reviewed, before.agreed) == (2, 1)
    await at_work.until_compacted([topics.EXPLANATIONS, topics.JOBS, topics.REVIEWS])
    drop(at_work.settings.store)
    for file in FILES:
        (at_work.settings.reports.directory / JOB / file).unlink()
    async with at_work.aggregator():
        async with asyncio.timeout(WAIT_S):
            # not counted: compaction takes older reports away meanwhile
            while (after := (await at_work.reports())[-1]).at_ms <= before.at_ms or not is_complete(after):
                await asyncio.sleep(0.1)
    assert numbers(after).model_dump() == numbers(before).model_dump()
    assert files_of(at_work) == written
    content = json.loads(written[FILES[0]])
    assert content["job_metadata"]["explained"] == 20
    assert {each["feature_id"]: each["review"]["verdict"] for each in content["explanations"] if each["review"]} == {3: "right", 4: "partly"}


@asynccontextmanager
async def held_at_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], bool]]:
    """Let an aggregator that reads its topics anew stop in the middle, until the end of the context; gives whether it is there."""
    is_there, go_on = threading.Event(), threading.Event()
    apply = JobStore.apply

    def held(store: JobStore, changes: Iterable[Change], ends: Mapping[tuple[str, int], int]) -> None:
        apply(store, changes, ends)
        is_there.set()
        assert go_on.wait(WAIT_S)

    with monkeypatch.context() as patched:
        patched.setattr(JobStore, "apply", held)
        try:
            yield is_there.is_set
        finally:
            go_on.set()


async def nothing_is_reported_beyond(reported: int, at_work: Aggregating) -> None:
    await asyncio.sleep(1.0)  # ten looks at what is to be said: what must not happen cannot be waited for
    assert len(await at_work.reports()) == reported


async def test_while_a_store_that_is_lost_is_read_again_nothing_is_reported(at_work: Aggregating, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not by an aggregator that comes after one that was stopped in the middle of it."""
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(requested(), *(admitted(n) for n in range(6)), *(explained(n) for n in range(6)), sealed(6))
        await at_work.until_reported(is_complete)
        await settled(lambda: _is_silent(at_work))
    drop(at_work.settings.store)
    reported = len(await at_work.reports())
    one_by_one = at_work.settings.model_copy(update={"limits": at_work.settings.limits.model_copy(update={"batch_records": 1})})
    async with held_at_its_first_batch(monkeypatch) as is_held, at_work.aggregator(one_by_one):
        await settled(is_held)
    async with at_work.aggregator(one_by_one):
        async with held_at_its_first_batch(monkeypatch) as is_held:
            await settled(is_held)
            await nothing_is_reported_beyond(reported, at_work)
        async with asyncio.timeout(WAIT_S):
            while len(reports := await at_work.reports()) == reported:
                await asyncio.sleep(0.1)
    assert all(is_complete(report) and report.explained == 6 for report in reports[reported:])


@sqlite_only
async def test_an_aggregator_whose_disk_is_full_waits_alive_and_unready_and_goes_on_when_there_is_room(
    at_work: Aggregating, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at_work.make_topics()
    looks = 0
    take = Seat.take

    def counted(seat: Seat) -> JobStore:
        nonlocal looks
        looks += 1
        return take(seat)

    monkeypatch.setattr(Seat, "take", counted)
    async with at_work.aggregator() as assembly:
        await at_work.write(requested(), explained(0), sealed(3))
        await at_work.until_reported(lambda report: report.explained == 1)
        database = assembly.reports._store._db
        database.all("pragma query_only = on")
        await at_work.write(explained(1))
        await settled(lambda: "the store's file cannot be read or written now" in (assembly.app.unready_because() or ""))
        before = looks
        await asyncio.sleep(2.0)  # to see that it does not turn in a hot loop
        assert looks - before < 10
        assert assembly.app.is_alive()
        database.all("pragma query_only = off")
        await settled(lambda: assembly.app.unready_because() is None)
        await at_work.write(explained(2))
        report = await at_work.until_reported(is_complete)
        assert report.explained == 3


def _is_silent(at_work: Aggregating) -> bool:
    with reading(at_work.settings.store) as rows:
        return rows.outbox() == [] and all(dirty == 0 for _, dirty, _ in rows.due())


async def test_whatever_covers_a_result_or_a_part_of_a_job_in_its_compacted_topic_it_is_written_again(at_work: Aggregating) -> None:
    """Junk whose headers name another feature, another feature's outcome, and a record that no client in Python can unpack."""
    await at_work.make_topics()
    winners = {f"{JOB}|{n}": encode(explained(n)) for n in range(3)}
    request, review = requested(), reviewed(1)
    async with at_work.aggregator():
        await at_work.write(request, *(explained(n) for n in range(4)), review, sealed(4))
        await at_work.until_reported(is_complete)
        await at_work.write(
            Outgoing(topics.EXPLANATIONS, f"{JOB}|0", b"junk", headers=((HEADER_JOB, JOB.encode()), (HEADER_FEATURE, b"3"))),
            replace(outgoing(explained(3)), key=f"{JOB}|1"),
            Outgoing(topics.JOBS, request.key, b"junk"),
            replace(outgoing(reviewed(2)), key=f"{JOB}|1"),
        )
        (record,) = [each for each in await at_work.read(topics.EXPLANATIONS) if each.key == f"{JOB}|2".encode()]
        async with at_work.clients.producer({topics.EXPLANATIONS}) as producer:
            await send_with_foreign_header(producer, topics.EXPLANATIONS, record.partition, record.key, b"junk")
        async with asyncio.timeout(WAIT_S):
            while (last := {each.key.decode(): each.value for each in await at_work.read(topics.EXPLANATIONS, topics.JOBS)}) and not (
                last.items() >= winners.items() and last[request.key] == encode(request) and (await at_work.read(topics.REVIEWS))[-1].value == encode(review)
            ):
                await asyncio.sleep(0.1)
        await settled(lambda: _is_silent(at_work))
    letters = await at_work.read(topics.DEAD_LETTERS)
    assert len(letters) == 5
    assert is_complete((await at_work.reports())[-1])


async def test_a_store_is_built_anew_also_when_the_last_record_of_a_partition_cannot_be_unpacked(at_work: Aggregating) -> None:
    await at_work.make_topics()
    await at_work.write(requested(), admitted(0), explained(0), sealed(1))
    async with at_work.clients.producer(set(EVENTS)) as producer:
        for topic in (topics.EXPLANATIONS, topics.ADMISSIONS, topics.JOBS):
            await send_with_foreign_header(producer, topic, 0, b"nobody|0", b"junk")
    async with at_work.aggregator():
        assert (await at_work.until_reported(is_complete)).explained == 1


async def test_a_topic_that_was_made_again_while_the_aggregator_was_away_is_noticed(at_work: Aggregating) -> None:
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(requested(), *(admitted(n) for n in range(3)), *(explained(n) for n in range(3)), sealed(3))
        await at_work.until_reported(is_complete)
    await at_work.delete_topics(topics.EXPLANATIONS)
    await at_work.make_topics()
    await at_work.write(*(explained(n, says=f"anew {n}") for n in range(2)), *(explained(n, "explain_2") for n in range(5)))
    async with at_work.aggregator():
        report = await at_work.until_reported(lambda report: report.explained == 2)
        assert (report.status, report.expected) == (JobStatus.RUNNING, 3)
        await at_work.write(explained(2))
        assert (await at_work.until_reported(is_complete)).explained == 3


async def test_a_topic_that_is_made_again_under_a_running_aggregator_is_noticed_and_nothing_is_said_of_a_mixture(
    at_work: Aggregating, monkeypatch: pytest.MonkeyPatch
) -> None:
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(requested(), *(explained(n) for n in range(4)), sealed(6))
        await at_work.until_reported(lambda report: report.explained == 4)
        await settled(lambda: _is_silent(at_work))
        reported = len(await at_work.reports())
        async with held_at_its_first_batch(monkeypatch) as is_held:
            await at_work.delete_topics(topics.EXPLANATIONS)
            await at_work.make_topics()
            await at_work.write(*(explained(n, says="anew") for n in range(4, 6)))
            await settled(is_held)
            await nothing_is_reported_beyond(reported, at_work)
        report = await at_work.until_reported(lambda report: report.explained == 2)
        assert report.status is not JobStatus.COMPLETED
    assert {report.explained for report in await at_work.reports()} <= {0, 1, 2, 3, 4}  # never the 6 of the old and the new topic together


async def test_a_store_that_has_read_beyond_the_end_of_a_topic_is_built_anew(at_work: Aggregating) -> None:
    await at_work.make_topics()
    await at_work.write(requested(), explained(1), sealed(1))
    with open_store(at_work.settings.store) as rows:  # as if the log had been cut: more was read than there is
        rows.apply([], {(topics.EXPLANATIONS, part): 1000 for part in range(2)})
    async with at_work.aggregator():
        await at_work.until_reported(lambda report: report.explained == 1 and is_complete(report))


@sqlite_only
async def test_the_store_that_was_replaced_is_kept_beside_and_read_until_the_new_one_is_whole(at_work: Aggregating, tmp_path: Path) -> None:
    await at_work.make_topics()
    await at_work.write(requested(), explained(1), sealed(1))
    with open_store(at_work.settings.store) as rows:
        rows.apply([], {(topics.EXPLANATIONS, 0): 1000})
    async with at_work.aggregator():
        await at_work.until_reported(is_complete)
        assert [each.name for each in (tmp_path / "state").glob("*.before-*")] == ["explain.db.before-1"]
        assert not list((tmp_path / "state").glob("*.anew*"))


async def test_records_that_expired_before_they_were_read_are_said_in_the_reports_of_running_jobs(at_work: Aggregating) -> None:
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(requested(), *(admitted(f"first {n}") for n in range(8)), explained(0), sealed(4))
        await at_work.until_reported(lambda report: report.explained == 1 and report.admitted == 8)
    await at_work.write(*(admitted(n) for n in range(1, 4)))
    for partition, end in {record.partition: record.offset + 1 for record in await at_work.read(topics.ADMISSIONS)}.items():
        await at_work.expire(topics.ADMISSIONS, partition, end)
    async with at_work.aggregator():
        report = await at_work.until_reported(lambda report: bool(report.notes))
        assert "expired before the aggregator had read them" in report.notes[0]
        assert topics.ADMISSIONS in report.notes[0]
        assert report.admitted == 8


async def test_a_job_with_features_missing_is_incomplete_only_when_nothing_waits_in_any_topic(at_work: Aggregating) -> None:
    await at_work.make_topics()
    await at_work.write(requested(), *(admitted(n) for n in range(3)), explained(0), sealed(3))
    waiting = ExplanationDrafted(
        subject=explained(9).subject, evidence=explained(9).evidence, answer=explained(9).answer,
        generation=Generation(model="m", endpoint="e", provider="p", latency_s=1, finish_reason="stop"),
        prompt={"template": "t", "version": "1", "sha256": "x", "messages": [], "answer": "fields"}, complexity="low",
    )  # fmt: skip
    await at_work.write(waiting)
    async with at_work.aggregator():
        await at_work.until_reported(lambda report: report.explained == 1)
        await asyncio.sleep(2 * at_work.settings.limits.quiet_s)  # what must not happen cannot be waited for
        assert (await at_work.reports())[-1].status is JobStatus.RUNNING
        (draft,) = await at_work.read(topics.DRAFTS)
        await at_work.expire(topics.DRAFTS, draft.partition, draft.offset + 1)
        place = Coordinates(topic=topics.DRAFTS, partition=0, offset=7)
        nameless = DeadLetter(source=place, service="validation", error="MalformedEvent", message="no draft", attempts=1, at_ms=1)
        named = nameless.model_copy(update={"source": place.model_copy(update={"offset": 8}), "explain_job_id": JOB, "feature_key": "1"})
        await at_work.write(nameless, named)
        report = await at_work.until_reported(lambda report: report.status is JobStatus.INCOMPLETE)
        assert report.missing == ["1", "2"]
        assert report.unreadable == [f"{topics.DRAFTS}/0/7"]
        await at_work.write(explained(1), explained(2))
        await at_work.until_reported(is_complete)


async def test_an_unsealed_job_is_inferred_to_be_complete_and_a_later_feature_opens_it_again(at_work: Aggregating) -> None:
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(admitted(0), admitted(1), explained(0), explained(1))
        report = await at_work.until_reported(is_complete)
        assert (report.expected, report.expected_source) == (2, "inferred")
        await at_work.write(admitted(2))
        await at_work.until_reported(lambda report: report.status is JobStatus.RUNNING)
        await at_work.write(explained(2))
        report = await at_work.until_reported(is_complete)
        assert (report.expected, report.expected_source) == (3, "inferred")


def order(action: str, revision: int = 0, job: str = JOB) -> JobEvent:
    control = ControlPart(action=action, who="somebody", why="a secret reason")  # type: ignore[arg-type]
    return JobEvent(explain_job_id=job, revision=revision, at_ms=3, control=control)


async def test_a_job_that_is_opened_again_after_it_was_cancelled_runs_until_its_new_seal_is_met(at_work: Aggregating) -> None:
    await at_work.make_topics()
    async with at_work.aggregator():
        await at_work.write(requested(), explained(0), failed(1), sealed(2), order("cancel"))
        await at_work.until_reported(lambda report: report.status is JobStatus.CANCELLED)
        await at_work.write(order("reopen", 1))
        await at_work.until_reported(lambda report: report.status is JobStatus.RUNNING)
        await at_work.write(sealed(2, revision=1))
        await at_work.until_stored(lambda rows: (state := rows.state(JOB)) is not None and state.expected == 2)
        await at_work.write(explained(1, revision=1))
        report = await at_work.until_reported(is_complete)
        assert (report.explained, report.failed, report.revision) == (2, 0, 1)
        assert [each.status for each in await at_work.reports()].count(JobStatus.COMPLETED) == 1


SECRET = "a text that nobody must find again"


async def test_of_a_deleted_job_no_text_is_left_in_compacted_topics_in_the_store_or_on_the_disk(at_work: Aggregating, tmp_path: Path) -> None:
    await at_work.make_topics(**{name.replace(".", "_"): value for name, value in SOON.items()})
    other = [requested("explain_2", "find_2"), explained(0, "explain_2", says="kept", find_job="find_2"), sealed(1, "explain_2")]
    background = JobBackground(find_job_id="find_1", target_model=SECRET, sample=[], distinct=1, frozen=True)
    with StoredAnswers.opened(at_work.settings.store) as answers:
        made = explained(0).generation
        assert made is not None
        await answers.put("1", KeptAnswer(text=SECRET, generation=made), prompt_sha256="asked without an outcome", job=JOB)
        await answers.put("2", KeptAnswer(text=SECRET, generation=made), prompt_sha256=f"prompt of {JOB} 1", job="explain_0")
        await answers.put("3", KeptAnswer(text="kept", generation=made), prompt_sha256="another", job="explain_2")
    async with at_work.aggregator():
        await at_work.write(*other, background, requested(route=SECRET), *(admitted(n) for n in range(4)), *(explained(n, says=SECRET) for n in range(3)))
        await at_work.write(Outgoing(topics.EXPLANATIONS, f"{JOB}|3", SECRET.encode()))  # malformed: a dead letter of the job
        await at_work.write(reviewed(1, why=SECRET), sealed(4))
        await at_work.until_reported(is_complete)
        folder = at_work.settings.reports.directory / JOB
        assert folder.is_dir()
        await at_work.write(order("delete"))
        await at_work.until_stored(lambda rows: _is_deleted(rows))
        assert not folder.exists()
        retried = explained(1, says=SECRET)
        retried = retried.model_copy(update={"subject": retried.subject.retried_as(1)})
        await at_work.write(explained(2, says=SECRET, p=0.1), retried, admitted(9), reviewed(2, why=SECRET), sealed(7))  # what was on its way
        await settled(lambda: _has_read_everything(at_work))
        with reading(at_work.settings.store) as rows:
            assert not rows.has_rows(JOB)
    compacted = [topics.EXPLANATIONS, topics.JOBS, topics.REPORTS, topics.REVIEWS, topics.BACKGROUNDS, topics.DEAD_LETTERS]
    async with asyncio.timeout(WAIT_S):
        while True:
            await at_work.roll(compacted)
            left = [record for record in await at_work.read(*compacted) if SECRET.encode() in (record.value or b"") or b"secret" in (record.value or b"")]
            if not left:
                break
    records = await at_work.read(*compacted)
    (control,) = [record for record in records if record.key == f"{JOB}|control".encode() and record.value is not None]
    assert b"somebody" not in control.value
    assert any(record.key == b"explain_2|0" and record.value == encode(other[1]) for record in records)
    assert SECRET.encode() not in _everything_in(at_work.settings.store, tmp_path)
    with StoredAnswers.opened(at_work.settings.store) as answers:
        assert [await answers.get(key) is not None for key in "123"] == [False, False, True]
    async with at_work.aggregator():  # and nothing of it comes back
        await settled(lambda: _has_read_everything(at_work))
        with reading(at_work.settings.store) as rows:
            assert not rows.has_rows(JOB)


def _is_deleted(rows: object) -> bool:
    return all(job != JOB for job, dirty, _ in rows.due() if dirty) and not rows.has_rows(JOB)  # type: ignore[attr-defined]


def _has_read_everything(at_work: Aggregating) -> bool:
    async def ends() -> dict[tuple[str, int], int]:
        async with at_work.clients.consumer() as consumer:
            from mistudio_explain.kafka.subscribers import partitions_of

            partitions = await partitions_of(consumer, [topics.EXPLANATIONS, topics.ADMISSIONS, topics.JOBS, topics.REVIEWS])
            return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(partitions)).items()}

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread, reading(at_work.settings.store) as rows:
        wanted = thread.submit(lambda: asyncio.run(ends())).result()
        return rows.outbox() == [] and all(end == 0 or rows.positions(topic).get(part) == end for (topic, part), end in wanted.items())


def _everything_in(store: StoreSettings, tmp_path: Path) -> bytes:
    if store.url.startswith("sqlite"):
        assert file_beside(store, "answers").is_file()
        return b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    with session(store) as connection:
        tables = connection.execute("select schemaname || '.' || tablename from pg_tables where schemaname like 'mistudio%'").fetchall()
        return b"".join(str(connection.execute(f"select * from {table}".encode()).fetchall()).encode() for (table,) in tables)


@sqlite_only
async def test_a_job_of_which_nothing_was_heard_for_long_is_deleted_and_its_last_record_goes_in_its_time(at_work: Aggregating) -> None:
    await at_work.make_topics()
    day_ms = 24 * 3_600_000
    old = [outgoing(event) for event in (requested(), explained(0), sealed(1))]
    await at_work.write(requested("explain_2"), *(Outgoing(each.topic, each.key, each.value, each.headers, timestamp_ms=50 * day_ms) for each in old))
    kept = at_work.settings.model_copy(update={"jobs": JobSettings(retain_days=100, deleted_days=1e-6)})
    async with at_work.aggregator(kept):
        await at_work.until_stored(lambda rows: "explain_2" in rows.jobs(9) and JOB not in rows.jobs(9))
    last = {record.key: record.value for record in await at_work.read(topics.JOBS, topics.EXPLANATIONS)}
    assert last[f"{JOB}|0".encode()] is None
    assert last[f"{JOB}|request".encode()] is None
    assert last[f"{JOB}|control".encode()] is None
    assert last[b"explain_2|request"] is not None
