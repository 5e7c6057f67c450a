"""Answers to reads, kept while nothing changed of what they were made of: to look them up again costs a hundred times as much.

An answer is served again only to the tenant that it was made for, for as long as neither the store's rows nor what the
topics say of jobs changed, and never for longer than `KEPT_S`: some figures also depend on the time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistudio_explain.gateway.access import Caller
from mistudio_explain.gateway.answers import KEEPABLE, is_kept

KEPT_S = 1.0
_MOST = 256
_LARGEST = 1 << 16

_Key = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Kept:
    version: object
    until: float
    body: bytes
    headers: dict[str, str]


class KeptAnswers:
    """Answers a read as it was answered before; `version` differs whenever what answers are made of does, and is None when that is not known."""

    def __init__(self, app: ASGIApp, *, version: Callable[[], object | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._version = version
        self._clock = clock
        self._answers: OrderedDict[_Key, _Kept] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        caller: Caller | None = scope.get("state", {}).get("caller") if scope["type"] == "http" and scope["method"] == "GET" else None
        if caller is None or "read" not in caller.scopes or (version := self._version()) is None:
            await self._app(scope, receive, send)
            return
        key = (caller.tenant, scope["path"], scope["query_string"])
        kept = self._answers.get(key)
        if kept is not None and kept.version == version and self._clock() < kept.until:
            self._answers.move_to_end(key)
            await _response(kept, Headers(scope=scope)).__call__(scope, receive, send)
            return
        await self._app(scope, receive, _Keeping(self, key, version, scope, send))

    def keep(self, key: _Key, version: object, body: bytes, headers: Headers) -> None:
        """Keep an answer that was made when things stood at a version."""
        told = {name: headers[name] for name in ("etag", "cache-control", "content-type")}
        self._answers[key] = _Kept(version, self._clock() + KEPT_S, body, told)
        self._answers.move_to_end(key)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)


class _Keeping:
    """Sends an answer on, and keeps it when it is one to be kept."""

    def __init__(self, answers: KeptAnswers, key: _Key, version: object, scope: Scope, send: Send) -> None:
        self._answers = answers
        self._key = key
        self._version = version
        self._scope = scope
        self._send = send
        self._headers: Headers | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200 and self._scope["state"].get(KEEPABLE):
            self._headers = Headers(raw=message["headers"])
        elif self._headers is not None and message["type"] == "http.response.body":
            body = message.get("body", b"")
            if not message.get("more_body") and len(body) <= _LARGEST:
                self._answers.keep(self._key, self._version, body, self._headers)
            self._headers = None
        await self._send(message)


def _response(kept: _Kept, asked: Headers) -> Response:
    if is_kept(asked, kept.headers["etag"]):
        return Response(status_code=304, headers={name: kept.headers[name] for name in ("etag", "cache-control")})
    return Response(kept.body, headers=kept.headers)
