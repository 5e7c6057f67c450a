"""Several workers on one store and several discovered servers: none is ever called by two of them, and each call is answered."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.real_postgres import RealPostgres
from mistudio_explain.llm import fleet as fleet_module
from mistudio_explain.llm.discovery import Server
from mistudio_explain.llm.fleet import Fleet, driven
from mistudio_explain.settings import EndpointSettings, LlmSettings, StoreSettings
from mistudio_explain.store.leases import StoredLeases
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply, call

SLOTS = 2
POOL = EndpointSettings(name="ollama", provider="ollama", url="http://ollama.mistudio-services.svc:11434", discover="dns", slots=SLOTS)
ANSWER_S = 0.03


@dataclass
class Busy:
    """A server that takes a while for each call, and counts how many it has at once."""

    now: int = 0
    most: int = 0
    answered: int = 0
    server: FakeLlm = field(init=False)

    def __post_init__(self) -> None:
        self.server = FakeLlm(self.answer)

    async def answer(self, reply: Reply) -> None:
        wire = OllamaWire()
        if reply.path != "/api/chat":
            await reply.whole(200, wire.models("m"))
            return
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(ANSWER_S)
            await reply.start()
            await reply.send(wire.piece("yes.") + wire.last())
            self.answered += 1
        finally:
            self.now -= 1
        await reply.end()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Busy]]:
    made = [Busy(), Busy()]

    async def find(settings: EndpointSettings) -> list[Server]:
        return [Server(f"ollama@{number}", busy.server.url) for number, busy in enumerate(made)]

    monkeypatch.setattr(fleet_module, "servers", find)
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 0.05)
    async with AsyncExitStack() as stack:
        for busy in made:
            await stack.enter_async_context(busy.server)
        yield made


@asynccontextmanager
async def worker(name: str, store: StoreSettings) -> AsyncIterator[Fleet]:
    """A worker that always has more calls to send than there are slots."""

    async def calling(fleet: Fleet) -> None:
        while True:
            async with fleet.endpoints.slot(["m"]) as choice:
                await fleet.endpoints.complete(choice, call())

    leases = StoredLeases(store, name)
    async with driven(LlmSettings(endpoints=(POOL,)), leases, rng=random.Random(1), waits=True) as fleet:
        callers = [asyncio.create_task(calling(fleet)) for _ in range(3 * SLOTS)]
        yield fleet
        failed = [caller.exception() for caller in callers if caller.done()]
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert failed == []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def drives(*fleets: Fleet) -> list[int]:
    return [len(fleet.endpoints.all) for fleet in fleets]


async def test_four_workers_and_two_servers_never_have_more_calls_at_one_than_its_slots(store: StoreSettings, servers: list[Busy]) -> None:
    async with AsyncExitStack() as staying, AsyncExitStack() as leaving:
        first = await leaving.enter_async_context(worker("first", store))
        await until(lambda: drives(first) == [2])
        await until(lambda: all(busy.now == SLOTS for busy in servers))  # busy while the others come
        second, third, fourth = [await staying.enter_async_context(worker(name, store)) for name in ("second", "third", "fourth")]
        await until(lambda: drives(first, second, third, fourth) == [1, 1, 0, 0])
        assert "all 2 are driven by other workers" in (fourth.unready_because() or "")
        await leaving.aclose()
        await until(lambda: drives(second, third, fourth) == [1, 1, 0])
        answered = [busy.answered for busy in servers]
        await until(lambda: all(busy.answered > before + 10 for busy, before in zip(servers, answered, strict=True)))
    assert [busy.most for busy in servers] == [SLOTS, SLOTS]
