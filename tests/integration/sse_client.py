"""A client of server-sent events, as browsers are: blocks of lines, the last id kept."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

WITHIN_S = 30.0


@dataclass(frozen=True)
class Event:
    name: str
    id: str | None
    content: Any


class Events:
    """What a stream sends; `next` waits for the next event that has content, and remembers the last id, also of those that have none."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id: str | None = None
        self._lines = answer.aiter_lines()

    async def next(self) -> Event:
        """Raises StopAsyncIteration at the end of the stream."""
        while True:
            event = await self.block()
            if event.content is not None:
                return event

    async def block(self) -> Event:
        """The next block, be it a sign of life."""
        async with asyncio.timeout(WITHIN_S):
            fields: dict[str, str] = {}
            while line := await anext(self._lines):
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        self.last_id = fields.get("id", self.last_id)
        return Event(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]) if "data" in fields else None)

    async def until(self, name: str) -> list[Event]:
        """The events up to the next one of a name, that one included."""
        found = [await self.next()]
        while found[-1].name != name:
            assert found[-1].name not in ("failed", "dropped"), found[-1]
            found.append(await self.next())
        return found


@asynccontextmanager
async def listening(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, json: Any = None) -> AsyncIterator[Events]:
    asked = {"accept": "text/event-stream", **(headers or {})}
    async with httpx.AsyncClient(timeout=WITHIN_S, trust_env=False) as client, client.stream(method, url, headers=asked, json=json) as answer:
        if answer.status_code != 200:
            await answer.aread()
            raise AssertionError(f"{answer.status_code}: {answer.text}")
        yield Events(answer)
