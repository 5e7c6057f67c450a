"""EndpointSlices are watched: changes are known at once, and every way in which a watch can end leads to another one."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from mistudio_explain.llm import endpoint_slices
from mistudio_explain.llm import fleet as fleet_module
from mistudio_explain.llm.discovery import LookupFailed
from mistudio_explain.llm.endpoint_slices import Watch
from mistudio_explain.llm.fleet import Alone, driven
from mistudio_explain.llm.kubernetes import Cluster
from mistudio_explain.settings import EndpointSettings, LlmSettings
from unit.llm.fake_kubernetes import HANG_UP, SERVICE_URL, TIME_IS_OVER, ApiServer, endpoint, line, slice_of
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply

Api = tuple[ApiServer, Cluster]
PATIENCE_S = 60.0  # on a machine that has much else to do
ONE, TWO = ("10.0.0.1", 11434), ("10.0.0.2", 11434)


@dataclass
class Watching:
    watch: Watch
    news: list[str] = field(default_factory=list)

    async def ready(self) -> list[tuple[str, int | None]] | str:
        try:
            return await self.watch.ready()
        except LookupFailed as error:
            return str(error)

    async def becomes(self, wanted: Callable[[list[tuple[str, int | None]] | str], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(await self.ready()):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(cluster: Cluster) -> AsyncIterator[Watching]:
    news: list[str] = []
    watching = Watching(Watch(cluster, SERVICE_URL, lambda: news.append("changed")), news)
    keeping = asyncio.create_task(watching.watch.keep())
    try:
        yield watching
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BETWEEN_S", "_FIRST_WAIT_S", "_LONGEST_WAIT_S"):
        monkeypatch.setattr(endpoint_slices, name, 0.02)


async def test_a_change_is_known_from_the_watch_without_another_list(api: Api) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("10.0.0.1"), name="a")]
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: found == [ONE])
        seen.news.clear()
        server.tells("MODIFIED", slice_of(endpoint("10.0.0.1", ready=False), name="a"))
        await seen.becomes(lambda found: found == [])
        server.tells("ADDED", slice_of(endpoint("10.0.0.2"), name="b"))
        await seen.becomes(lambda found: found == [TWO])
        server.tells("DELETED", slice_of(endpoint("10.0.0.2"), name="b"))
        await seen.becomes(lambda found: found == [])
        assert len(seen.news) >= 3
    assert server.lists == 1


@pytest.mark.parametrize("how", [TIME_IS_OVER, HANG_UP], ids=["at its time", "by a broken connection"])
async def test_a_watch_that_ends_goes_on_from_where_it_was(api: Api, how: object) -> None:
    server, cluster = api
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: found == [])
        server.tells("ADDED", slice_of(endpoint("10.0.0.1"), name="a"))
        await seen.becomes(lambda found: found == [ONE])
        server.version = 77
        await server.says(line({"type": "BOOKMARK", "object": {"kind": "EndpointSlice", "metadata": {"resourceVersion": "77"}}}))
        await server.says(how)
        server.tells("ADDED", slice_of(endpoint("10.0.0.2"), name="b"))
        await seen.becomes(lambda found: found == [ONE, TWO])
    assert server.watched_from == ["1", "77"]
    assert server.lists == 1


async def test_a_version_that_the_api_server_has_forgotten_is_listed_anew(api: Api) -> None:
    server, cluster = api
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: found == [])
        server.slices, server.version = [slice_of(endpoint("10.0.0.1"))], 900
        await server.says(line({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version: 1 (900)"}}))
        await seen.becomes(lambda found: found == [ONE])
        async with asyncio.timeout(PATIENCE_S):
            while len(server.watched_from) < 2:
                await asyncio.sleep(0.01)
    assert server.watched_from == ["1", "900"]
    assert server.lists == 2


async def test_while_the_api_server_is_away_nothing_is_said_to_be_gone_and_afterwards_all_is_known(api: Api) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("10.0.0.1"), name="a")]
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: found == [ONE])
        await server.says(HANG_UP)
        server.status = 503
        await seen.becomes(lambda found: "HTTP 503" in found)
        asked = len(server.server.requests)
        server.tells("MODIFIED", slice_of(endpoint("10.0.0.1"), endpoint("10.0.0.2"), name="a"))
        server.status = 200
        await seen.becomes(lambda found: found == [ONE, TWO])
    assert asked < 20
    assert server.lists == 1


@pytest.mark.parametrize("wrong", [b"no json\n", b'{"type": "MODIFIED"}\n', b"[]\n", b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "9"}}}\n'])
async def test_an_answer_that_makes_no_sense_is_said_and_watched_again(api: Api, wrong: bytes) -> None:
    server, cluster = api
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: found == [])
        await server.says(wrong)
        await seen.becomes(lambda found: found == [] or "something else" in found)
        server.tells("ADDED", slice_of(endpoint("10.0.0.1"), name="a"))
        await seen.becomes(lambda found: found == [ONE])
        assert len(server.watched_from) == 2


async def test_a_right_that_is_missing_is_said_with_what_is_needed(api: Api) -> None:
    server, cluster = api
    server.status = 403
    async with watching(cluster) as seen:
        await seen.becomes(lambda found: "HTTP 403" in found and "`list` and `watch`" in found)


async def test_a_fleet_follows_what_the_watch_tells_without_waiting_for_its_next_look(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def with_a_model(reply: Reply) -> None:
        await reply.whole(200, OllamaWire().models("m"))

    server, cluster = api
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 60.0)
    monkeypatch.setattr(fleet_module.Cluster, "around_us", classmethod(lambda _: cluster))
    pool = EndpointSettings(name="ollama", provider="ollama", url=SERVICE_URL, discover="endpointslices", slots=2)
    async with FakeLlm(with_a_model) as llm, driven(LlmSettings(endpoints=(pool,)), Alone(), rng=random.Random(1), waits=True) as fleet:
        port = int(llm.url.rpartition(":")[2])
        for ready in (True, False, True):
            server.tells("MODIFIED", slice_of(endpoint("127.0.0.1", ready=ready), ports=(port,), name="a"))
            async with asyncio.timeout(PATIENCE_S):
                while bool(fleet.endpoints.all) != ready:
                    await asyncio.sleep(0.01)
