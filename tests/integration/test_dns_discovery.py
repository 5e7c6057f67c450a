"""Servers behind one name come and go as a real DNS server's answers change, while calls go on."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from integration.local_dns import LocalDns, local_dns
from mistudio_explain.llm import fleet as fleet_module
from mistudio_explain.llm.fleet import Alone, Fleet, driven
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply, call

NAME = "ollama.mistudio-services.svc"


@dataclass
class Pods:
    """Servers at addresses of their own and one port, as pods behind a headless service; each call takes `answer_s`."""

    answer_s: float = 0.02
    begun: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    port: int = 0

    async def start(self, stack: AsyncExitStack, *addresses: str) -> None:
        for address in addresses:
            server = await stack.enter_async_context(FakeLlm(self._script(address), host=address, port=self.port))
            self.port = int(server.url.rpartition(":")[2])

    def _script(self, address: str) -> Callable[[Reply], object]:
        async def answer(reply: Reply) -> None:
            wire = OllamaWire()
            if reply.path != "/api/chat":
                await reply.whole(200, wire.models("m"))
                return
            self.begun[address] += 1
            await asyncio.sleep(self.answer_s)
            await reply.start()
            await reply.send(wire.piece("yes.") + wire.last())
            await reply.end()
            self.ended[address] += 1

        return answer


@pytest.fixture
async def pods(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pods]:
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 0.05)
    async with AsyncExitStack() as stack:
        made = Pods()
        await made.start(stack, "127.0.0.2", "127.0.0.3", "127.0.0.4")
        yield made


@pytest.fixture
async def dns(pods: Pods) -> AsyncIterator[LocalDns]:
    with local_dns() as server:
        yield server


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def addresses(fleet: Fleet) -> list[str]:
    return sorted(endpoint.name.removeprefix("ollama@") for endpoint in fleet.endpoints.all)


async def test_servers_join_and_leave_with_the_answers_of_dns_while_calls_go_on_and_none_fails(pods: Pods, dns: LocalDns) -> None:
    async def calling(fleet: Fleet) -> None:
        while True:
            async with fleet.endpoints.slot(["m"]) as choice:
                await fleet.endpoints.complete(choice, call())

    def answer_more(address: str) -> Callable[[], bool]:
        before = pods.ended[address]
        return lambda: pods.ended[address] > before + 3

    pool = EndpointSettings(name="ollama", provider="ollama", url=f"http://{NAME}:{pods.port}", discover="dns", slots=2)
    async with driven(LlmSettings(endpoints=(pool,)), Alone(), rng=random.Random(1), waits=True) as fleet:
        callers = [asyncio.create_task(calling(fleet)) for _ in range(6)]
        assert addresses(fleet) == []  # the name does not exist yet, and the calls are held
        dns.zone[NAME] = ["127.0.0.2"]
        await until(answer_more("127.0.0.2"))
        dns.zone[NAME] = ["127.0.0.3", "127.0.0.2", "127.0.0.4"]
        await until(lambda: addresses(fleet) == ["127.0.0.2", "127.0.0.3", "127.0.0.4"])
        for address in ("127.0.0.3", "127.0.0.4"):
            await until(answer_more(address))

        dns.zone[NAME] = ["127.0.0.3", "127.0.0.4"]
        await until(lambda: addresses(fleet) == ["127.0.0.3", "127.0.0.4"] and not fleet.endpoints._leaving)
        begun = pods.begun["127.0.0.2"]
        await until(answer_more("127.0.0.3"))
        assert pods.ended["127.0.0.2"] == pods.begun["127.0.0.2"] == begun  # what it had begun ended, and no more came

        dns.stop()
        await until(lambda: "cannot be looked up" in str(fleet._pools[0].complaints))
        await until(answer_more("127.0.0.3"))
        assert addresses(fleet) == ["127.0.0.3", "127.0.0.4"]
        dns.start()
        await until(lambda: not fleet._pools[0].complaints)

        del dns.zone[NAME]
        await until(lambda: addresses(fleet) == [])
        assert "there is none" in (fleet.unready_because() or "")
        dns.zone[NAME] = ["127.0.0.2"]
        await until(answer_more("127.0.0.2"))
        assert [caller for caller in callers if caller.done()] == []
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    assert NAME in dns.asked
