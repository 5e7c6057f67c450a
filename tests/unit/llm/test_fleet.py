"""Discovered servers join and leave while a process runs, each driven by the one worker whose lease it is."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.llm import fleet as fleet_module
from mistudio_explain.llm.discovery import LookupFailed, Server
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.fleet import IN_CLUSTER, Alone, Fleet, Hold, Leases, driven
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply

POOL = EndpointSettings(name="ollama", provider="ollama", url="http://ollama.mistudio-services.svc:11434", discover="dns", slots=2)
LASTS_S = 20.0


@dataclass
class Fakes:
    """What surrounds a fleet: servers, a name that resolves to some of them, leases, time."""

    servers: list[FakeLlm]
    found: list[int] = field(default_factory=list)
    lookup_fails: bool = False
    others: dict[str, str] = field(default_factory=dict)
    surplus: set[str] = field(default_factory=set)
    store_fails: bool = False
    given_back: list[str] = field(default_factory=list)
    now: float = 100.0

    async def find(self, settings: EndpointSettings) -> list[Server]:
        if self.lookup_fails:
            raise LookupFailed("the DNS server is away")
        return [Server(f"ollama@{number}", self.servers[number].url) for number in self.found]

    async def turn(self, pool: str, found: Sequence[str]) -> Hold:
        if self.store_fails:
            raise Unreachable("the store is away")
        ours = frozenset(url for url in found if url not in self.others)
        elsewhere: Mapping[str, str] = {url: self.others[url] for url in found if url in self.others}
        return Hold(ours, frozenset(self.surplus) & ours, elsewhere, LASTS_S)

    async def give_back(self, url: str) -> None:
        self.given_back.append(url)

    async def leave(self) -> None:
        self.given_back.append("all")

    def url(self, number: int) -> str:
        return self.servers[number].url


async def with_a_model(reply: Reply) -> None:
    await reply.whole(200, OllamaWire().models("m"))


async def failing(reply: Reply) -> None:
    await reply.whole(500, OllamaWire().error("out of memory"))


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    async with AsyncExitStack() as stack:
        yield Fakes([await stack.enter_async_context(FakeLlm(with_a_model)) for _ in range(3)])


@pytest.fixture
async def fleet(fakes: Fakes) -> AsyncIterator[Fleet]:
    endpoints = Endpoints([], rng=random.Random(1))
    yield Fleet(endpoints, [POOL], fakes, context_tokens=4096, find=fakes.find, clock=lambda: fakes.now)
    await endpoints.close()


def names(fleet: Fleet) -> list[str]:
    return sorted(endpoint.name for endpoint in fleet.endpoints.all)


async def until_given_back(fakes: Fakes, *urls: str) -> None:
    async with asyncio.timeout(5):
        while fakes.given_back != list(urls):
            await asyncio.sleep(0.01)


async def test_servers_join_when_they_are_found_and_leave_when_they_are_not(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found = [0, 1]
    await fleet.look()
    assert names(fleet) == ["ollama@0", "ollama@1"]
    assert fleet.endpoints.slots == 4
    fakes.found = [1, 2]
    await fleet.look()
    assert names(fleet) == ["ollama@1", "ollama@2"]


async def test_a_call_that_waits_is_answered_by_a_server_that_joins(fleet: Fleet, fakes: Fakes) -> None:
    async def taken() -> str:
        async with fleet.endpoints.slot(["m"]) as choice:
            return choice.endpoint.name

    waiting = asyncio.create_task(taken())
    await fleet.look()
    assert not waiting.done()
    fakes.found = [0]
    await fleet.look()
    assert await asyncio.wait_for(waiting, 5) == "ollama@0"


async def test_a_server_is_given_back_only_after_its_last_call_has_ended(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found = [0, 1]
    await fleet.look()
    async with fleet.endpoints.slot(["m"]) as choice:
        busy = choice.endpoint
        url = busy.url
        fakes.surplus = {url}
        await fleet.look()
        assert busy.name not in names(fleet)
        await fleet.look()  # it is surplus still, and not given back twice
        assert fakes.given_back == []
    await until_given_back(fakes, url)


async def test_a_lookup_that_fails_takes_no_server_away(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found = [0]
    await fleet.look()
    fakes.lookup_fails = True
    await fleet.look()
    assert names(fleet) == ["ollama@0"]


async def test_what_is_held_is_driven_until_it_expires_while_the_leases_are_away(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found = [0]
    await fleet.look()
    fakes.store_fails = True
    fakes.now += LASTS_S - 1
    await fleet.look()
    assert names(fleet) == ["ollama@0"]
    fakes.now += 1
    await fleet.look()
    assert names(fleet) == []
    assert "the leases of the store cannot be renewed: the store is away" in (fleet.unready_because() or "")
    fakes.store_fails = False
    await fleet.look()
    assert names(fleet) == ["ollama@0"]


async def test_a_server_that_another_worker_took_is_left(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found = [0, 1]
    await fleet.look()
    fakes.others = {fakes.url(0): "worker-b"}
    await fleet.look()
    assert names(fleet) == ["ollama@1"]


async def test_a_worker_without_a_server_says_who_drives_them(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found, fakes.others = [0], {fakes.url(0): "worker-b"}
    await fleet.look()
    assert fleet.unready_because() == (
        f"no LLM server to drive: ollama ({POOL.url}): all 1 are driven by other workers ({fakes.url(0)} by worker-b); "
        "this one waits for one of them to fall free"
    )
    fakes.found = []
    await fleet.look()
    assert fleet.unready_because() == f"no LLM server to drive: ollama ({POOL.url}): there is none"


async def test_a_server_that_does_not_serve_joins_when_it_does(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found, fakes.servers[0].script = [0], failing
    await fleet.look()
    assert names(fleet) == []
    assert "ollama@0" in (fleet.unready_because() or "")
    assert "HTTP 500" in (fleet.unready_because() or "")
    fakes.servers[0].script = with_a_model
    await fleet.look()
    assert names(fleet) == ["ollama@0"]
    assert fleet.unready_because() is None


async def hanging(reply: Reply) -> None:
    await reply.client_gone.wait()


async def test_a_server_that_hangs_keeps_no_other_from_being_renewed(fleet: Fleet, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "LOOK_TIMEOUT_S", 1.5)
    fakes.found, fakes.servers[1].script = [0, 1], hanging
    await asyncio.wait_for(fleet.look(), 4)  # less than its own probes would take
    assert names(fleet) == ["ollama@0"]


@pytest.mark.parametrize("step", ["find", "turn"])
async def test_what_is_held_is_left_in_time_whatever_fails(fleet: Fleet, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    fakes.found = [0]
    await fleet.look()

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(fleet, "_find" if step == "find" else "_leases", broken if step == "find" else SimpleNamespace(turn=broken))
    fakes.now += LASTS_S
    await fleet.look()
    assert names(fleet) == (["ollama@0"] if step == "find" else [])  # a lookup that fails takes nothing away, and leases were renewed


async def test_a_server_whose_opening_fails_unexpectedly_keeps_no_other_from_joining_and_being_renewed(
    fleet: Fleet, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = fleet_module.configured

    async def broken(settings: EndpointSettings, context_tokens: int) -> object:
        if settings.name == "ollama@1":
            raise RuntimeError("nobody expected this")
        return await opened(settings, context_tokens)

    monkeypatch.setattr(fleet_module, "configured", broken)
    fakes.found = [0, 1]
    await fleet.look()
    fakes.now += LASTS_S - 1
    await fleet.look()
    fakes.now += LASTS_S - 1
    await fleet.look()
    assert names(fleet) == ["ollama@0"]


async def test_a_surplus_server_that_never_served_is_given_back(fleet: Fleet, fakes: Fakes) -> None:
    fakes.found, fakes.servers[0].script = [0], failing
    await fleet.look()
    fakes.surplus = {fakes.url(0)}
    await fleet.look()
    await until_given_back(fakes, fakes.url(0))


def resolving(monkeypatch: pytest.MonkeyPatch, fakes: Fakes, *, in_cluster: bool = False) -> None:
    monkeypatch.setattr(fleet_module, "servers", fakes.find)
    monkeypatch.setattr(fleet_module, "is_in_cluster", lambda: in_cluster)
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 0.02)


async def test_a_process_watches_for_as_long_as_it_runs_and_gives_everything_back(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    resolving(monkeypatch, fakes)
    leases: Leases = fakes
    async with driven(LlmSettings(endpoints=(POOL,)), leases, rng=random.Random(1), waits=True) as fleet:
        assert names(fleet) == []
        fakes.found = [0, 1]
        async with asyncio.timeout(5):
            while names(fleet) != ["ollama@0", "ollama@1"]:
                await asyncio.sleep(0.01)
    assert fakes.given_back == ["all"]


async def test_a_command_that_cannot_wait_says_why_there_is_no_server(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    resolving(monkeypatch, fakes)
    with pytest.raises(Unreachable, match=r"no LLM server to drive: ollama .*: there is none"):
        async with driven(LlmSettings(endpoints=(POOL,)), Alone(), rng=random.Random(1), waits=False):
            pass


async def test_a_discovery_with_the_name_of_another_endpoint_is_a_wrong_setting(fakes: Fakes) -> None:
    for other in (POOL, EndpointSettings(name="ollama", provider="ollama", url=fakes.url(2))):
        with pytest.raises(BadSettings, match="'ollama' is used 2 times"):
            async with driven(LlmSettings(endpoints=(POOL, other)), Alone(), rng=random.Random(1), waits=True):
                pass


async def test_discovered_servers_stand_beside_configured_ones(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    resolving(monkeypatch, fakes)
    fakes.found = [0]
    configured = EndpointSettings(name="gpu9", provider="ollama", url=fakes.url(2))
    async with driven(LlmSettings(endpoints=(POOL, configured)), Alone(), rng=random.Random(1), waits=False) as fleet:
        assert names(fleet) == ["gpu9", "ollama@0"]


async def test_in_a_cluster_services_wait_for_mistudios_ollama_when_nothing_is_configured(monkeypatch: pytest.MonkeyPatch, fakes: Fakes) -> None:
    resolving(monkeypatch, fakes, in_cluster=True)
    assert IN_CLUSTER.url == "http://ollama.mistudio-services.svc:11434"
    async with driven(LlmSettings(), Alone(), rng=random.Random(1), waits=True) as fleet:
        assert str(IN_CLUSTER.url) in (fleet.unready_because() or "")
        fakes.found = [0]
        async with asyncio.timeout(5):
            while names(fleet) != ["ollama@0"]:
                await asyncio.sleep(0.01)
