"""Leases of discovered LLM servers on real SQLite and real PostgreSQL: never two holders, and no server without one for long."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.local_server import free_ports
from integration.real_postgres import RealPostgres
from mistudio_explain.errors import Unreachable
from mistudio_explain.llm.usage import Use
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside, file_beside
from mistudio_explain.store.leases import LEASE_S, NAME, StoredLeases
from mistudio_explain.store.usage import SEEN_WITHIN_S, ModelUsage, StoredUsage

POOL = "http://ollama.mistudio-services.svc:11434"
A, B, C = (f"http://10.0.0.{number}:11434" for number in (1, 2, 3))
HOLDER = """
import asyncio, sys
from test_leases import POOL, StoredLeases, StoreSettings

async def hold(settings, worker, found):
    leases = StoredLeases(settings, worker)
    while True:
        print(*sorted((await leases.turn(POOL, found)).ours), flush=True)

asyncio.run(hold(StoreSettings.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3:]))
"""


class Time:
    """Milliseconds, as the test wants them."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def worker(settings: StoreSettings, time: Time) -> Iterator[Callable[[str], StoredLeases]]:
    opened: list[StoredLeases] = []

    def named(name: str) -> StoredLeases:
        opened.append(StoredLeases(settings, name, clock=time))
        return opened[-1]

    yield named
    for leases in opened:
        leases.close()


async def test_a_worker_alone_has_all_and_a_second_one_gets_its_half_when_the_first_gives_it_back(worker: Callable[[str], StoredLeases], time: Time) -> None:
    first, second = worker("first"), worker("second")
    assert (await first.turn(POOL, [A, B])).ours == {A, B}
    time.ms += 10
    waiting = await second.turn(POOL, [A, B])
    assert (waiting.ours, waiting.elsewhere) == (frozenset(), {A: "first", B: "first"})
    giving = await first.turn(POOL, [A, B])
    assert (giving.ours, giving.surplus) == ({A, B}, {B})
    assert (await second.turn(POOL, [A, B])).ours == frozenset()  # its calls there may still run
    await first.give_back(B)
    assert (await second.turn(POOL, [A, B])).ours == {B}
    assert (await first.turn(POOL, [A, B])).surplus == frozenset()


async def test_a_worker_more_than_servers_waits_and_takes_over_when_one_leaves(worker: Callable[[str], StoredLeases], time: Time) -> None:
    first, second = worker("first"), worker("second")
    await first.turn(POOL, [A])
    time.ms += 10
    assert (await second.turn(POOL, [A])).elsewhere == {A: "first"}
    await first.leave()
    assert (await second.turn(POOL, [A])).ours == {A}


async def test_a_lease_that_is_not_renewed_expires_and_not_before(worker: Callable[[str], StoredLeases], time: Time) -> None:
    first, second = worker("first"), worker("second")
    await first.turn(POOL, [A])
    time.ms += int(LEASE_S * 1000) - 1
    assert (await second.turn(POOL, [A])).ours == frozenset()
    time.ms += 1
    assert (await second.turn(POOL, [A])).ours == {A}
    late = await first.turn(POOL, [A])
    assert (late.ours, late.elsewhere) == (frozenset(), {A: "second"})


async def test_a_renewed_lease_does_not_expire(worker: Callable[[str], StoredLeases], time: Time) -> None:
    first, second = worker("first"), worker("second")
    for _ in range(5):
        assert (await first.turn(POOL, [A])).ours == {A}
        time.ms += int(LEASE_S * 500)
        assert (await second.turn(POOL, [A])).ours == frozenset()


async def test_a_server_that_is_gone_is_surplus_and_one_that_comes_is_taken(worker: Callable[[str], StoredLeases]) -> None:
    first = worker("first")
    await first.turn(POOL, [A])
    moved = await first.turn(POOL, [B])
    assert (moved.ours, moved.surplus) == ({A, B}, {A})


async def test_a_server_found_under_two_addresses_has_one_driver(worker: Callable[[str], StoredLeases], time: Time) -> None:
    first, second = worker("first"), worker("second")
    await first.turn(POOL, [A])
    assert (await second.turn("http://another-name:11434", [A])).ours == frozenset()


async def test_workers_that_race_never_hold_a_server_together(settings: StoreSettings) -> None:
    workers = [StoredLeases(settings, f"worker-{number}") for number in range(6)]
    try:
        for _ in range(4):
            holds = await asyncio.gather(*(leases.turn(POOL, [A, B, C]) for leases in workers))
            held = [url for hold in holds for url in hold.ours]
            assert len(held) == len(set(held))
            await asyncio.gather(*(leases.give_back(url) for leases, hold in zip(workers, holds, strict=True) for url in hold.surplus))
        assert sorted(held) == [A, B, C]
    finally:
        await asyncio.gather(*(leases.leave() for leases in workers))


def test_what_a_killed_worker_held_is_taken_over_when_its_lease_has_expired(settings: StoreSettings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, settings.model_dump_json(), "victim", A],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(3)] == [A] * 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    clock = Time()
    heir = StoredLeases(settings, "heir", clock=clock)
    try:
        clock.ms = now_of(settings)
        assert asyncio.run(heir.turn(POOL, [A])).elsewhere == {A: "victim"}
        clock.ms += int(LEASE_S * 1000)
        assert asyncio.run(heir.turn(POOL, [A])).ours == {A}
    finally:
        heir.close()


def now_of(settings: StoreSettings) -> int:
    """The time by the store's own clock."""
    beside = Beside(settings, NAME, ())
    try:
        return beside.call(lambda database: database.now_ms())
    finally:
        beside.close()


async def test_a_store_that_cannot_be_reached_is_said_and_is_no_right_to_drive(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unreachable, match="does not answer"):
        await StoredLeases(StoreSettings(url=f"postgresql://tests@127.0.0.1:{port}/nothing"), "w").turn(POOL, [A])
    damaged = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    file_beside(damaged, NAME).write_bytes(b"this is no file of SQLite " * 500)
    with pytest.raises(Unreachable, match=r"explain-fleet\.db: cannot be used"):
        await StoredLeases(damaged, "w").turn(POOL, [A])


async def test_uses_are_summed_over_workers_and_a_model_is_loaded_since_it_was_first_seen_so(settings: StoreSettings, time: Time) -> None:
    first, second = StoredUsage(settings, clock=time), StoredUsage(settings, clock=time)
    try:
        await first.note([Use("gpu0", "m", 2, is_loaded=True), Use("gpu0", "n", 0, is_loaded=False)])
        began = time.ms
        time.ms += 5_000
        await second.note([Use("gpu0", "m", 3, is_loaded=True)])
        read = await first.read()
        assert read["gpu0", "m"] == ModelUsage(5, used_ms=time.ms, loaded_ms=began)
        assert read["gpu0", "n"] == ModelUsage(0, used_ms=None, loaded_ms=None)
        time.ms += int(SEEN_WITHIN_S * 1000)
        assert (await first.read())["gpu0", "m"].loaded_ms is None  # nobody looks, so nobody knows
        await second.note([Use("gpu0", "m", 0, is_loaded=True)])
        assert (await first.read())["gpu0", "m"].loaded_ms == time.ms
        await second.note([Use("gpu0", "m", 0, is_loaded=False)])
        assert (await first.read())["gpu0", "m"].loaded_ms is None
    finally:
        first.close()
        second.close()


def test_reading_the_usage_of_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    settings = StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    assert asyncio.run(StoredUsage(settings).read()) == {}
    assert list(tmp_path.iterdir()) == []
