"""The PostgreSQL store: one aggregator of several says what it knows, and a server that is away is waited for."""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from integration.aggregating import JOB, WAIT_S, Aggregating, admitted, explained, requested, sealed, settled
from integration.local_server import free_ports
from integration.real_kafka import RealKafka
from integration.real_postgres import RealPostgres
from mistudio_explain.errors import BadInput, BadSettings, Unreachable
from mistudio_explain.events.codec import encode
from mistudio_explain.events.job import JobStatus
from mistudio_explain.settings import KafkaSettings, LimitSettings, ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store, reading, store_exists
from mistudio_explain.store.postgres import LEASE_S

PROGRAM = Path(sys.executable).with_name("mistudio-explain")


@pytest.fixture
def at_work(clean_kafka: RealKafka, postgres: RealPostgres, tmp_path: Path) -> Aggregating:
    return Aggregating(
        Settings(
            kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, partitions=2),
            store=postgres.new_store(),
            reports=ReportSettings(directory=tmp_path / "out", interval_s=0.1),
            limits=LimitSettings(quiet_s=60.0),
        )
    )


@asynccontextmanager
async def process_of(at_work: Aggregating, log: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """An aggregator of its own."""
    settings = at_work.settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MISTUDIO_EXPLAIN_")} | {
        "MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers or "",
        "MISTUDIO_EXPLAIN_KAFKA__PARTITIONS": "2",
        "MISTUDIO_EXPLAIN_STORE__URL": settings.store.url,
        "MISTUDIO_EXPLAIN_STORE__PASSWORD_FILE": str(settings.store.password_file),
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(settings.reports.directory),
        "MISTUDIO_EXPLAIN_REPORTS__INTERVAL_S": "0.1",
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(str(PROGRAM), "serve", "aggregator", *arguments, env=environment, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            await process.wait()


def said(log: Path, event: str) -> int:
    return log.read_text().count(f'"event": "{event}"')


def answers(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


async def test_of_two_aggregators_one_stands_by_ready_and_takes_over_when_the_other_ends(at_work: Aggregating, tmp_path: Path) -> None:
    await at_work.make_topics()
    (port,) = free_ports(1)
    async with AsyncExitStack() as standing_by, AsyncExitStack() as leading:
        await leading.enter_async_context(at_work.aggregator())
        await at_work.write(requested(), admitted(0), explained(0), sealed(2))
        await at_work.until_reported(lambda report: report.explained == 1)
        log = tmp_path / "standby.log"
        await standing_by.enter_async_context(process_of(at_work, log, "--health-port", str(port)))
        await settled(lambda: said(log, "seat.waiting") > 0 and answers(port, "/readyz") == answers(port, "/livez") == 200)
        with pytest.raises(BadSettings, match="another aggregator"), open_store(at_work.settings.store):
            pass
        await leading.aclose()
        await at_work.write(explained(1))
        report = await at_work.until_reported(lambda report: report.status is JobStatus.COMPLETED)
        assert report.explained == 2
        assert said(log, "seat.waiting") == 1


async def test_a_leader_that_was_frozen_beyond_its_lease_loses_its_seat_and_says_nothing_when_it_wakes_up(at_work: Aggregating, tmp_path: Path) -> None:
    await at_work.make_topics()
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    async with process_of(at_work, logs[0]) as first:
        await at_work.write(requested(), explained(0), sealed(100))
        await at_work.until_reported(lambda report: report.explained == 1)
        async with process_of(at_work, logs[1]) as second:
            await settled(lambda: said(logs[1], "seat.waiting") > 0)
            await at_work.write(*(explained(n) for n in range(1, 10)))
            first.send_signal(signal.SIGSTOP)  # with records on their way to it
            await at_work.until_reported(lambda report: report.explained == 10)
            await at_work.write(*(explained(n) for n in range(10, 20)))
            await at_work.until_reported(lambda report: report.explained == 20)
            first.send_signal(signal.SIGCONT)
            await settled(lambda: said(logs[0], "seat.lost") > 0)
            await at_work.write(*(explained(n) for n in range(20, 30)))
            await at_work.until_reported(lambda report: report.explained == 30)
            second.send_signal(signal.SIGKILL)
            await second.wait()
            await at_work.write(explained(30))
            await at_work.until_reported(lambda report: report.explained == 31)
    counted = [report.explained for report in await at_work.reports()]
    assert counted == sorted(counted)  # nobody said anything that was older than what had been said


async def test_a_server_that_restarts_is_waited_for_and_nothing_is_lost(at_work: Aggregating, postgres: RealPostgres) -> None:
    await at_work.make_topics()
    async with at_work.aggregator() as assembly:
        await at_work.write(requested(), *(explained(n) for n in range(5)), sealed(15))
        await at_work.until_reported(lambda report: report.explained == 5)
        await asyncio.to_thread(postgres.stop, "immediate")
        await at_work.write(*(explained(n) for n in range(5, 15)))
        await asyncio.sleep(2.0)
        assert assembly.app.is_alive()
        await asyncio.to_thread(postgres.start)
        report = await at_work.until_reported(lambda report: report.status is JobStatus.COMPLETED)
        assert report.explained == 15


def test_the_lease_is_shorter_than_what_anybody_waits_for_in_these_tests() -> None:
    assert LEASE_S * 3 < WAIT_S


def test_a_server_that_refuses_or_does_not_answer_is_named_with_what_to_look_at(postgres: RealPostgres, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong\n")
    (port,) = free_ports(1)
    for settings in (
        postgres.new_store().model_copy(update={"password_file": wrong}),
        StoreSettings(url=f"postgresql://tests@127.0.0.1:{port}/nothing"),
    ):
        with pytest.raises(Unreachable, match=r"store\.url"), open_store(settings):
            pass
    with pytest.raises(BadSettings, match=r"store\.url"), open_store(StoreSettings(url="postgresql://a:b:c/d?nonsense=1")):
        pass


def test_before_an_aggregator_came_there_is_no_store_to_read(postgres: RealPostgres) -> None:
    settings = postgres.new_store()
    assert not store_exists(settings)
    with pytest.raises(BadInput, match="an aggregator makes it"), reading(settings):
        pass


def test_names_that_postgresql_cannot_hold_are_kept_readable(postgres: RealPostgres) -> None:
    settings = postgres.new_store()
    event = admitted(1).model_copy(update={"target_model": "a\0b"})
    with open_store(settings) as rows:
        rows.apply([Change(event, encode(event), "", 1)], {})
        state = rows.state(JOB)
        assert state is not None
        assert state.target_model == "a\N{REPLACEMENT CHARACTER}b"
