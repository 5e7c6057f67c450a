"""The EndpointSlices of a Kubernetes service while they change: a list, and a watch that goes on from where it ended."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import stamina
import structlog

from mistudio_explain.llm.discovery import LookupFailed
from mistudio_explain.llm.kubernetes import Cluster, Service, Slice, listed, servers_in

log = structlog.get_logger(__name__)

WATCH_S = 60
"""The API server is asked to end each watch after so long; a connection that has silently died is noticed soon after."""
_SILENCE_S = WATCH_S + 15.0
_CONNECT_S = 5.0
_BETWEEN_S = 0.5
"""From the end of a watch to the next one: were each to end at once, there would be two a second."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_GONE = 410
"""What a version comes to that the API server has forgotten: everything is to be listed anew."""


class Watch:
    """What is known of one service's slices, kept up to date by `keep`.

    While the API server is away, or refuses, `ready` says so, and what was known stays to go on from.
    """

    def __init__(self, cluster: Cluster, url: str, changed: Callable[[], None]) -> None:
        self._cluster, self._url = cluster, url
        self._changed = changed
        self._slices: dict[str, Slice] | None = None
        self._version: str | None = None
        self._listing = asyncio.Lock()
        self._trouble: LookupFailed | None = None

    async def ready(self) -> list[tuple[str, int | None]]:
        """Address and port of each ready server. Raises LookupFailed when that is not known now."""
        if self._trouble is not None:
            raise self._trouble
        async with self._listing:
            if self._slices is None:
                await self._list()
        return servers_in((self._slices or {}).values(), self._service())

    async def keep(self) -> None:
        """Watch until it is cancelled, through every trouble: after each the waits grow, to half a minute."""
        while True:
            async for attempt in stamina.retry_context(
                on=LookupFailed, attempts=None, timeout=None, wait_initial=_FIRST_WAIT_S, wait_max=_LONGEST_WAIT_S, wait_jitter=_FIRST_WAIT_S
            ):
                with attempt:
                    await self._tried()
            await asyncio.sleep(_BETWEEN_S)

    async def _tried(self) -> None:
        try:
            async with self._listing:
                if self._version is None:
                    await self._list()
                    self._changed()
            await self._follow()
        except LookupFailed as error:
            self._trouble = error
            raise
        except Exception as error:  # whatever it is, servers are to be found again
            log.exception("watch.failed", url=self._url)
            self._trouble = LookupFailed(f"{self._url} cannot be watched: {error!r}")
            raise self._trouble from error

    async def _list(self) -> None:
        slices, self._version = await listed(self._service())
        self._slices = {each["metadata"]["name"]: each for each in slices}
        self._trouble = None

    async def _follow(self) -> None:
        """One watch, to its end."""
        service = self._service()
        query = {
            "labelSelector": service.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",  # newer versions to go on from, though nothing changes
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(WATCH_S),
        }
        with service.asked():
            async with (
                service.asking(httpx.Timeout(_CONNECT_S, read=_SILENCE_S)) as client,
                client.stream("GET", service.slices_url, params=query) as answer,
            ):
                if answer.status_code == _GONE:
                    self._version = None
                    return
                if answer.is_error:
                    await answer.aread()
                    raise service.refused(answer)
                self._trouble = None
                async for line in answer.aiter_lines():
                    if line and not self._take(json.loads(line)):
                        return

    def _take(self, event: dict[str, Any]) -> bool:
        """Note what the API server tells; False when it has forgotten our version."""
        kind, told = event["type"], event["object"]
        if kind == "ERROR":
            if told.get("code") != _GONE:
                raise LookupFailed(f"the API server of Kubernetes at {self._cluster.url} ends a watch: {told.get('message')}")
            self._version = None
            return False
        about = told["metadata"]
        version = about["resourceVersion"]
        if kind != "BOOKMARK":
            known = {name: each for name, each in (self._slices or {}).items() if name != about["name"]}
            self._slices = known if kind == "DELETED" else {**known, about["name"]: told}
            self._changed()
        self._version = version  # last: an event that makes no sense is asked for again
        return True

    def _service(self) -> Service:
        return Service.named_by(self._url, self._cluster)
