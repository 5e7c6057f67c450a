"""The aggregator: from real Kafka into SQLite and PostgreSQL, beside a bare loop; its restart and its memory with a million rows.

The bare loop takes batches by aiokafka, decodes them by fastavro, and writes key and bytes by one executemany a batch.
The rows of the million are written into the store directly, about 0.6 KB each; the new events come through Kafka.
"""

import asyncio
import gc
import io
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from fastavro import schemaless_reader

from benchmarks.requests import draft_of, features, request_of
from benchmarks.table import print_table, ratios, spread
from integration.real_kafka import RealKafka
from integration.real_postgres import RealPostgres, postgres_programs
from mistudio_explain.assembly import assembled
from mistudio_explain.errors import ExplainError
from mistudio_explain.events import topics
from mistudio_explain.events.codec import current_schemas, encode
from mistudio_explain.events.explanation import Accuracy, FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.job import JobEvent, SealedPart
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import KafkaSettings, LimitSettings, ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store, reading

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
EVENTS = 10_000
SIZE = 4_000
ROWS = (100_000, 1_000_000)
NEW = 5_000
COLLECT_AFTER = (100_000, 50, 100)  # as every command sets it
RUNS = 3
_READ_TO = {(topics.EXPLANATIONS, 0): 0}
"""What a store must say that it has read: one into which nothing was read is built anew beside, and seen only when all is read."""


def outcomes(count: int, size: int, texts: int, job: str) -> Iterator[FeatureOutcome]:
    """Explained outcomes of distinct features, each with its own evidence."""
    for feature in features(count, size, texts=texts):
        draft = draft_of(request_of(feature))
        yield FeatureOutcome(
            outcome=OutcomeKind.EXPLAINED, subject=draft.subject.model_copy(update={"explain_job_id": job}), evidence=draft.evidence, answer=draft.answer,
            explanation=draft.answer.explanation, quality_score=0.7, accuracy=Accuracy(p=0.8, n=20, basis="seen"), generation=draft.generation,
            pattern_verification=Verification.CONFIRMED, confidence=0.6, business_relevance="medium",
        )  # fmt: skip


async def fill(settings: Settings, events: Iterable[FeatureOutcome]) -> None:
    """Make the topics and publish outcomes, outside the measurement."""
    clients = KafkaClients(settings.kafka, settings.limits)
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), None)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, max_batch_size=1 << 19)
    await producer.start()
    try:
        for event in events:
            await producer.send(topics.EXPLANATIONS, encode(event), key=outcome_key(event.subject.explain_job_id, event.subject.feature_key).encode())
        await producer.flush()
    finally:
        await producer.stop()


async def bare(settings: Settings, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the bare loop for all events, from its first batch on."""
    schema = current_schemas()["FeatureOutcome"].parsed
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.executescript("pragma journal_mode=wal; pragma synchronous=normal; create table outcome(key text primary key, body blob)")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, enable_auto_commit=False, max_partition_fetch_bytes=1 << 20)
    await consumer.start()
    try:
        partitions = await partitions_of(consumer, [topics.EXPLANATIONS])
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        seen, started = 0, (0.0, 0.0)
        while seen < EVENTS:
            batch = await consumer.getmany(timeout_ms=50, max_records=500)
            started = started if seen else (time.perf_counter(), time.process_time())
            rows = []
            for record in (record for records in batch.values() for record in records):
                body = io.BytesIO(record.value)
                body.seek(10)
                schemaless_reader(body, schema, None)
                rows.append((record.key.decode(), record.value))
            db.execute("begin")
            db.executemany("insert or replace into outcome values(?, ?)", rows)
            db.execute("commit")
            seen += len(rows)
        return time.perf_counter() - started[0], time.process_time() - started[1]
    finally:
        await consumer.stop()
        db.close()


async def ours(settings: Settings, events: int) -> tuple[float, float]:
    """Wall and CPU seconds of the aggregator for all events, from the first that stands in its store on."""
    clients = KafkaClients(settings.kafka, settings.limits)
    async with assembled(settings, clients, ["aggregator"]) as assembly, assembly.app.running():
        started, done_before = (0.0, 0.0), 0
        while True:
            await asyncio.sleep(0.05)
            done = applied(settings)
            if done and not done_before:
                started, done_before = (time.perf_counter(), time.process_time()), done
            if done >= events:
                scale = events / max(1, events - done_before)
                return (time.perf_counter() - started[0]) * scale, (time.process_time() - started[1]) * scale


def applied(settings: Settings) -> int:
    """Events of the topic that are in the store, as a reader of it sees them."""
    try:
        with reading(settings.store) as store:
            return sum(store.positions(topics.EXPLANATIONS).values())
    except ExplainError:  # there is none yet
        return 0


def throughput(kafka: RealKafka, postgres: RealPostgres | None, folder: Path) -> None:
    """Print events per second, and the bare loop's as a share."""
    base = Settings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap), limits=LimitSettings(batch_records=500))
    asyncio.run(fill(base, outcomes(EVENTS, SIZE, 20, "explain_bench")))
    names = ("bare loop", "into SQLite", *(("into PostgreSQL",) if postgres else ()))
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}

    def note(name: str, taken: tuple[float, float]) -> None:
        wall[name].append(taken[0] / EVENTS * 1e6)
        cpu[name].append(taken[1] / EVENTS * 1e6)

    for run in range(RUNS):
        here = folder / str(run)
        here.mkdir()
        reports = ReportSettings(directory=here / "out")
        note("bare loop", asyncio.run(bare(base, here)))
        stores = {"into SQLite": StoreSettings(url=f"sqlite:///{here}/explain.db"), **({"into PostgreSQL": postgres.new_store()} if postgres else {})}
        for name, store in stores.items():
            with open_store(store) as begun:
                begun.apply([], _READ_TO)
            settings = base.model_copy(update={"store": store, "reports": reports})
            note(name, asyncio.run(ours(settings, EVENTS)))
    for kind, taken in (("wall time", wall), ("CPU of the process", cpu)):
        for name, goal in (("into SQLite", 0.5), ("into PostgreSQL", 0.3)):
            if name in taken:
                title = f"Aggregator: {EVENTS} outcomes of {SIZE // 1000} KB from Kafka, {kind} for each"
                ratios(title, {"bare loop": taken["bare loop"], name: taken[name]}, unit="µs", peer="bare loop", ours=name, goal=goal, digits=0)
    print("\nevents/s: " + ", ".join(f"{name} {spread([1e6 / each for each in times], 0)}" for name, times in wall.items()))


def prefill(settings: StoreSettings, rows: int) -> None:
    """Write outcomes of a completed job straight into the store."""
    with open_store(settings) as store:
        stream = outcomes(rows, 200, 1, "explain_before")
        while batch := list(islice(stream, 2000)):
            store.apply([Change(event, encode(event), "", 1_700_000_000_000 + number) for number, event in enumerate(batch)], _READ_TO)
        seal = JobEvent(explain_job_id="explain_before", at_ms=0, sealed=SealedPart(expected=rows + 1))
        store.apply([Change(seal, encode(seal), "", int(time.time() * 1000))], {})
        store.reported("explain_before", store.due()[0][1], "incomplete")


@dataclass(frozen=True, slots=True)
class Restart:
    """A start of `serve aggregator`, with new events waiting."""

    serving_s: float
    """Process start until it says that it serves."""
    first_s: float
    """Process start until the first new event is in the store."""
    cpu_s: float
    """CPU of the process until then, which tells what it is elsewhere when this machine is busy."""
    mib: float
    """Its memory after the last new event."""


def restarted(settings: Settings, before: int, log: Path) -> Restart:
    """Start the aggregator as operations do, on a store that has the first `before` events of the topic already."""
    environment = os.environ | {
        "MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": str(settings.kafka.bootstrap_servers),
        "MISTUDIO_EXPLAIN_STORE__URL": settings.store.url,
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(settings.reports.directory),
    }
    with log.open("wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen([str(PROGRAM), "serve", "aggregator"], env=environment, cwd=log.parent, stdout=out, stderr=out)
    try:
        measured = psutil.Process(process.pid)
        serving = first = cpu = 0.0
        while (done := applied(settings)) < before + NEW or not serving or not first:
            if process.poll() is not None:
                raise RuntimeError(f"the aggregator ended with {process.returncode}:\n{log.read_text()}")
            if not serving and b'"serving"' in log.read_bytes():
                serving = time.perf_counter() - started
            if not first and done > before:
                first, cpu = time.perf_counter() - started, sum(measured.cpu_times()[:2])
            time.sleep(0.01)
        time.sleep(1.0)
        return Restart(serving, first, cpu, measured.memory_info().rss / (1 << 20))
    finally:
        process.terminate()
        process.wait()


def restarts(kafka: RealKafka, folder: Path) -> None:
    """Print restart and memory with many rows."""
    rows, memory = [], []
    for count in ROWS:
        kafka.delete_topics("mistudio.")
        store = StoreSettings(url=f"sqlite:///{folder}/{count}.db")
        prefill(store, count)
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap), store=store, reports=ReportSettings(directory=folder / "out"))
        starts = []
        for run in range(RUNS):
            asyncio.run(fill(settings, outcomes(NEW, SIZE, 20, f"explain_new_{run}")))
            starts.append(restarted(settings, run * NEW, folder / "aggregator.log"))
        with reading(store) as read:
            kept = read.counts("default", job="explain_before").total
        if kept != count:
            raise RuntimeError(f"{count} rows were in the store, and {kept} are left: it was built anew")
        memory.append(starts[-1].mib)
        times = [spread([getattr(start, name) for start in starts]) for name in ("first_s", "cpu_s", "serving_s")]
        rows.append([f"{count:,}", *times, f"{memory[-1]:.0f}", f"{(folder / f'{count}.db').stat().st_size / 1e9:.2f}"])
    columns = (
        "rows in the store",
        "process start to first new event, s (goal < 2)",
        "its CPU until then, s",
        "process start to `serving`, s",
        f"RSS after {NEW:,} new events, MiB",
        "file, GB",
    )
    growth = memory[-1] / memory[0] - 1
    print_table(
        "Aggregator: restart and memory (SQLite)", columns, rows, note=f"memory grows by {growth:+.1%} from {ROWS[0]:,} to {ROWS[-1]:,} rows (goal ±10%)"
    )


def main() -> None:
    gc.set_threshold(*COLLECT_AFTER)
    programs = postgres_programs()
    with tempfile.TemporaryDirectory() as name, RealKafka(Path(name) / "kafka") as kafka:
        folder = Path(name)
        if programs is None:
            throughput(kafka, None, folder)
        else:
            with RealPostgres(programs) as postgres:
                throughput(kafka, postgres, folder)
        restarts(kafka, folder)


if __name__ == "__main__":
    main()
