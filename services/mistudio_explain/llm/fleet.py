"""A process's part of the LLM fleet: its endpoints, among them discovered servers, which join and leave while it runs.

A server is driven by one worker at a time, else N workers would keep N times its slots busy and switch its models
against each other. A configured endpoint is bound to its worker by the settings; a discovered server by a lease.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from mistudio_explain.errors import ExplainError, Unreachable
from mistudio_explain.llm.discovery import LookupFailed, Server, servers, servers_at
from mistudio_explain.llm.endpoint_slices import Watch
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.kubernetes import Cluster, is_in_cluster
from mistudio_explain.llm.opening import check_names, configured
from mistudio_explain.settings import EndpointSettings, LlmSettings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""Servers are looked up so often: Kubernetes' DNS lets answers be kept for 5 s (CoreDNS, plugin kubernetes, default `ttl`)."""
NEWS_S = 0.2
"""When a watch has told of a change, a look is taken so long after it: changes that come together are looked at together."""
LOOK_TIMEOUT_S = 5.0
"""Of each step of a look, which are three: together less than a lease lasts, so that one server that hangs costs no other's."""
IN_CLUSTER = EndpointSettings(name="ollama", provider="ollama", url="http://ollama.mistudio-services.svc:11434", discover="dns")
"""What is used in a Kubernetes cluster when the settings name no endpoint: miStudio's own Ollama."""

Find = Callable[[EndpointSettings], Awaitable[list[Server]]]


@dataclass(frozen=True, slots=True)
class Hold:
    """What a worker has of a pool of servers after a turn at the leases; all by their addresses."""

    ours: frozenset[str]
    """To drive for `lasts_s` from the beginning of the turn."""
    surplus: frozenset[str]
    """Ours still, but to be given back as soon as their calls have ended: another worker waits for them, or they are gone."""
    elsewhere: Mapping[str, str]
    """Driven by others, and by whom."""
    lasts_s: float


class Leases(Protocol):
    """Who drives which server."""

    async def turn(self, pool: str, found: Sequence[str]) -> Hold:
        """Renew what is ours, and take our due of what is free. Raises an ExplainError when nobody can say."""
        ...

    async def give_back(self, url: str) -> None:
        """Let others have a server that we do not call any more."""
        ...

    async def leave(self) -> None:
        """Give everything back."""
        ...


class Alone:
    """Leases of a process that shares its servers with no other worker."""

    async def turn(self, pool: str, found: Sequence[str]) -> Hold:  # noqa: ARG002, D102
        return Hold(frozenset(found), frozenset(), {}, float("inf"))

    async def give_back(self, url: str) -> None:  # noqa: D102
        pass

    async def leave(self) -> None:  # noqa: D102
        pass


@dataclass(slots=True)
class _Pool:
    """The servers of one endpoint of the settings that has `discover`."""

    settings: EndpointSettings
    found: dict[str, Server] = field(default_factory=dict)
    """By address, as they were last seen."""
    hold: Hold = field(default_factory=lambda: Hold(frozenset(), frozenset(), {}, 0.0))
    held_until: float = 0.0
    driven: dict[str, Server] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    """Why it has fewer servers than it could: by what it is about, for people."""


class Fleet:
    """Keeps the endpoints of a process as the servers that are found, and ours to drive."""

    def __init__(
        self,
        endpoints: Endpoints,
        pools: Sequence[EndpointSettings],
        leases: Leases,
        *,
        context_tokens: int,
        find: Find | None = None,
        news: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints = endpoints
        self._pools = [_Pool(settings) for settings in pools]
        self._leases = leases
        self._context_tokens = context_tokens
        self._find = find or servers
        self._news = news or asyncio.Event()
        self._clock = clock
        self._leaving: dict[str, asyncio.Task[None]] = {}

    async def keep(self) -> None:
        """Look again and again, and soon when there is news, until it is cancelled."""
        looked = self._clock()
        while self._pools:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, looked + LOOK_EVERY_S - self._clock())):
                    await self._news.wait()
                    await asyncio.sleep(NEWS_S)
            self._news.clear()
            looked = self._clock()
            await self.look()

    async def look(self) -> None:
        """Let servers that came join, and those that went, or are no longer ours, leave."""
        await asyncio.gather(*(self._look(pool) for pool in self._pools))

    async def leave(self) -> None:
        """Give the leases back, when nothing is called any more."""
        for leaving in list(self._leaving.values()):
            leaving.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        try:
            await self._leases.leave()
        except ExplainError as error:
            log.warning("fleet.not_left", error=str(error), what="others take over when the leases have expired")

    def unready_because(self) -> str | None:
        """Why there is no endpoint at all; None while there is one."""
        if self.endpoints.all or not self._pools:
            return None
        return "no LLM server to drive: " + "; ".join(_state(pool) for pool in self._pools)

    async def _look(self, pool: _Pool) -> None:
        complaints: dict[str, str] = {}
        await self._find_servers(pool, complaints)
        await self._renew(pool, complaints)
        ours = (pool.hold.ours - pool.hold.surplus) if self._clock() < pool.held_until else frozenset()
        for url in sorted(pool.driven.keys() - ours):
            self._let_go(pool, pool.driven.pop(url))
        coming = [pool.found[url] for url in sorted(ours) if url in pool.found and url not in pool.driven and url not in self._leaving]
        await asyncio.gather(*(self._join(pool, server, complaints) for server in coming))
        for url in pool.hold.surplus - self._leaving.keys():  # ours without having joined, as one that does not serve
            self._give_back(url)
        pool.complaints = complaints

    async def _find_servers(self, pool: _Pool, complaints: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                pool.found = {server.url: server for server in await self._find(pool.settings)}
        except LookupFailed as error:  # nobody says that those known are gone
            complaints["lookup"] = str(error)
        except TimeoutError:
            complaints["lookup"] = f"looking up {pool.settings.url} took more than {LOOK_TIMEOUT_S:g} s"
        except Exception as error:  # whatever it is, leases are to be renewed
            log.exception("fleet.lookup_failed", pool=pool.settings.name)
            complaints["lookup"] = f"{pool.settings.url} cannot be looked up: {error!r}"

    async def _renew(self, pool: _Pool, complaints: dict[str, str]) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                pool.hold = await self._leases.turn(pool.settings.url or "", list(pool.found))
            pool.held_until = began + pool.hold.lasts_s
        except ExplainError as error:  # what is held is ours until it expires
            complaints["leases"] = f"the leases of the store cannot be renewed: {error}"
        except TimeoutError:
            complaints["leases"] = f"the leases of the store cannot be renewed within {LOOK_TIMEOUT_S:g} s"
        except Exception as error:  # whatever it is, what is held is to be left in time
            log.exception("fleet.renewal_failed", pool=pool.settings.name)
            complaints["leases"] = f"the leases of the store cannot be renewed: {error!r}"
        if "leases" in complaints:
            log.warning("fleet.not_renewed", pool=pool.settings.name, error=complaints["leases"])

    async def _join(self, pool: _Pool, server: Server, complaints: dict[str, str]) -> None:
        """Use a server that answers; one that does not is tried again at the next look."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                alone = pool.settings.model_copy(update={"name": server.name, "url": server.url, "discover": None})
                endpoint, failure = await configured(alone, self._context_tokens)
        except TimeoutError:
            complaints[server.name] = f"{server.name} ({server.url}) does not answer within {LOOK_TIMEOUT_S:g} s"
            return
        except ExplainError as error:
            complaints[server.name] = str(error)
            return
        except Exception as error:  # whatever it is, the other servers' leases are to be renewed
            log.exception("fleet.join_failed", endpoint=server.name, url=server.url)
            complaints[server.name] = f"{server.name} ({server.url}): {error!r}"
            return
        if failure is not None:
            await endpoint.provider.close()
            complaints[server.name] = f"{server.name} ({server.url}), {failure.kind}: {failure}"
            return
        self.endpoints.join(endpoint)
        pool.driven[server.url] = server
        log.info("fleet.joined", endpoint=server.name, url=server.url, slots=endpoint.slots, models=[model.name for model in endpoint.models])

    def _let_go(self, pool: _Pool, server: Server) -> None:
        why = "gone" if server.url not in pool.found else "left to another worker" if server.url in pool.hold.ours else "no longer ours"
        log.info("fleet.leaves", endpoint=server.name, url=server.url, why=why)
        self._leaving[server.url] = asyncio.create_task(self._left(server), name=f"leaving {server.name}")

    async def _left(self, server: Server) -> None:
        try:
            await self.endpoints.leave(server.name)
            await self._returned(server.url)
        finally:
            del self._leaving[server.url]

    def _give_back(self, url: str) -> None:
        async def given_back() -> None:
            try:
                await self._returned(url)
            finally:
                del self._leaving[url]

        self._leaving[url] = asyncio.create_task(given_back(), name=f"giving {url} back")

    async def _returned(self, url: str) -> None:
        try:
            await self._leases.give_back(url)
        except ExplainError as error:  # asked for again at the next turn, for it is surplus still
            log.warning("fleet.not_given_back", url=url, error=str(error))


def _state(pool: _Pool) -> str:
    where = f"{pool.settings.name} ({pool.settings.url})"
    if pool.complaints:
        return f"{where}: {'; '.join(pool.complaints.values())}"
    if not pool.found:
        return f"{where}: there is none"
    drivers = ", ".join(f"{url} by {worker}" for url, worker in sorted(pool.hold.elsewhere.items()))
    return f"{where}: all {len(pool.found)} are driven by other workers ({drivers}); this one waits for one of them to fall free"


@asynccontextmanager
async def driven(settings: LlmSettings, leases: Leases, *, rng: random.Random, waits: bool) -> AsyncIterator[Fleet]:
    """The endpoints of the settings, and of the servers discovered for them as they come and go.

    With `waits`, an endpoint that is away is waited for; else all that are named must answer, and of a discovery one
    server. Raises Unreachable and BadSettings as `opened` does.
    """
    check_names(settings.endpoints)
    pools = [endpoint for endpoint in settings.endpoints if endpoint.discover is not None]
    if not settings.endpoints and is_in_cluster() and (waits or await _exists(IN_CLUSTER)):
        pools = [IN_CLUSTER]
    news = asyncio.Event()
    watches = {pool.name: Watch(Cluster.around_us(), pool.url or "", news.set) for pool in pools if pool.discover == "endpointslices"}

    async def find(pool: EndpointSettings) -> list[Server]:
        return servers_at(await watches[pool.name].ready(), pool) if pool.name in watches else await servers(pool)

    named = settings.model_copy(update={"endpoints": tuple(endpoint for endpoint in settings.endpoints if endpoint.discover is None)})
    if pools and not named.endpoints:
        endpoints = Endpoints([], rng=rng, max_wait_s=settings.max_wait_s)
    else:
        endpoints = await (Endpoints.open_though_away(named, rng=rng) if waits else Endpoints.open(named, rng=rng))
    fleet = Fleet(endpoints, pools, leases, context_tokens=settings.context_tokens, find=find, news=news)
    keeping: list[asyncio.Task[None]] = []
    try:
        await fleet.look()
        if not waits and (why := fleet.unready_because()) is not None:
            raise Unreachable(why)
        keeping = [asyncio.create_task(fleet.keep(), name="fleet")]
        keeping += [asyncio.create_task(watch.keep(), name=f"watching {name}") for name, watch in watches.items()]
        yield fleet
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await endpoints.close()
        await fleet.leave()


async def _exists(pool: EndpointSettings) -> bool:
    try:
        return bool(await servers(pool))
    except LookupFailed:
        return False
