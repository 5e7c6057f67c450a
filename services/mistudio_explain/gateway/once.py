"""Orders that are given once, however often they are sent: by the key that a caller sends with them."""

import hashlib
from collections.abc import Awaitable, Callable
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
        if self.key is None:
            return await give()
        replies = self.gateway.replies
        what = hashlib.sha256(
            f"{self.request.method} {self.request.url.path}?{self.request.url.query}\n".encode() + (said.encode() if isinstance(said, str) else said)
        ).hexdigest()
        before = await run_in_threadpool(replies.claim, self.tenant, self.key, what, self.gateway.now_ms())
        match before:
            case Claimed.ELSEWHERE:
                raise Problem(
                    409, "in-progress", "the same request, by its Idempotency-Key, is being answered now; ask again in a moment", headers={"retry-after": "1"}
                )
            case Claimed.OTHERWISE:
                raise Problem(422, "key-reused", "another request bore this Idempotency-Key; give each its own")
            case Reply():
                return Response(before.body, before.status, {"idempotency-replayed": "true", **before.headers}, "application/json")
        try:
            response = await give()
        except BaseException:
            await run_in_threadpool(replies.release, self.tenant, self.key)
            raise
        kept = {name: value for name in ("location",) if (value := response.headers.get(name)) is not None}
        await run_in_threadpool(replies.keep, self.tenant, self.key, Reply(response.status_code, bytes(response.body), kept))
        return response


async def _once(request: Request, gateway: Here, caller: Writer, key: Key = None) -> _Once:
    return _Once(gateway, caller.tenant, key, request)


Once = Annotated[_Once, Depends(_once)]
"""Gives an order once, as a parameter of a route: `await once(what the request says, give)`."""
