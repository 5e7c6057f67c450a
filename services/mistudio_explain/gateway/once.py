"""Orders that are given once, however often they are sent: by the key that a caller sends with them."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from mistudio_explain.gateway.access import Writer
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.store.replies import Claimed, Reply

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Any text that no other request bears. Sent again with it within a day, the same request is answered as before and orders nothing more.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Once:
    gateway: Gateway
    tenant: str
    key: str | None
    request: Request

    async def __call__(self, said: str | bytes, give: Callable[[], Awaitable[Response]]) -> Response:
        """Answer as the same request was answered before, else give the order and keep the answer; `said` is all that the request says."""
        before = await self.before(said)
        if before is not None:
            return before
        async with self.giving() as keep:
            response = await give()
            await keep(response)
        return response

    async def before(self, said: str | bytes) -> Response | None:
        """The answer that the same request was given before; None when the order is to be given now, inside `giving`. Raises Problem."""
        if self.key is None:
            return None
        head = f"{self.request.method} {self.request.url.path}?{self.request.url.query}\n".encode()
        what = hashlib.sha256(head + (said.encode() if isinstance(said, str) else said)).hexdigest()
        before = await run_in_threadpool(self.gateway.replies.claim, self.tenant, self.key, what, self.gateway.now_ms())
        match before:
            case Claimed.ELSEWHERE:
                raise Problem(
                    409, "in-progress", "the same request, by its Idempotency-Key, is being answered now; ask again in a moment", headers={"retry-after": "1"}
                )
            case Claimed.OTHERWISE:
                raise Problem(422, "key-reused", "another request bore this Idempotency-Key; give each its own")
            case Reply():
                return Response(before.body, before.status, {"idempotency-replayed": "true", **before.headers}, "application/json")
        return None

    @asynccontextmanager
    async def giving(self) -> AsyncIterator[Callable[[Response], Awaitable[None]]]:
        """To give the order inside, and keep its answer; where none is kept, the order may be given again."""
        is_kept = False

        async def keep(response: Response) -> None:
            nonlocal is_kept
            if self.key is not None:
                kept = {name: value for name in ("location",) if (value := response.headers.get(name)) is not None}
                await run_in_threadpool(self.gateway.replies.keep, self.tenant, self.key, Reply(response.status_code, bytes(response.body), kept))
            is_kept = True

        try:
            yield keep
        finally:
            if self.key is not None and not is_kept:
                await run_in_threadpool(self.gateway.replies.release, self.tenant, self.key)


async def _once(request: Request, gateway: Here, caller: Writer, key: Key = None) -> _Once:
    return _Once(gateway, caller.tenant, key, request)


Once = Annotated[_Once, Depends(_once)]
"""Gives an order once, as a parameter of a route: `await once(what the request says, give)`."""
