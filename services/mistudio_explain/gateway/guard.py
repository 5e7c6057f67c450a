"""Stands before every route: who calls, from where, how often and with how much; and what is written down of it."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistudio_explain.errors import ExplainError, Unreachable
from mistudio_explain.gateway.access import ANYONE_HERE, Caller, holder, unauthorised
from mistudio_explain.gateway.cookies import Sessions, session_in
from mistudio_explain.gateway.headers import protective
from mistudio_explain.gateway.keyring import KeyRing
from mistudio_explain.gateway.limits import Buckets
from mistudio_explain.gateway.origin import host_of, is_from_another_page, is_loopback, is_safe
from mistudio_explain.gateway.problems import Problem, explained
from mistudio_explain.observability.metrics import REFUSED_REQUESTS
from mistudio_explain.settings import GatewaySettings
from mistudio_explain.store.audit import Deed, StoredAudit
from mistudio_explain.store.database import StoreLost

UPLOADS = frozenset({"/api/v1/uploads"})
"""Paths whose requests may be as large as an upload."""
FILES = re.compile(r"/api/v1/jobs/[^/]+/files/")
"""Paths under which a job's files are handed out, which the audit log remembers."""
_NAME = re.compile(r"[A-Za-z0-9._:/@~ -]{1,401}")

log = structlog.get_logger(__name__)


class Guard:
    """Lets a request through to the application, with its caller in `request.state`, or answers it with a problem.

    `clock` gives seconds that never go back, `now_ms` milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: GatewaySettings,
        keys: KeyRing,
        sessions: Sessions,
        audit: StoredAudit,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._sessions = sessions
        self._audit = audit
        self._now_ms = now_ms
        self._clock = clock
        self._buckets = Buckets(settings.requests_per_s, settings.requests_at_once)
        self._is_public = not is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(self, scope, send)
        try:
            caller = await self._admitted(scope)
        except ExplainError as problem:
            REFUSED_REQUESTS.labels(getattr(problem, "kind", "unreachable")).inc()
            await explained(problem)(scope, receive, answer.send)
            return
        state = scope.setdefault("state", {})
        state["caller"] = caller
        state["needs_key"] = self.needs_key
        answer.caller = caller
        try:
            await self._app(scope, self._bounded(scope, receive), answer.send)
        except _KeyIsGone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def needs_key(self) -> bool:
        """Whether requests must bring a key: always where others than this machine reach the gateway."""
        return self._is_public or self._keys.needs_key

    async def is_good(self, caller: Caller) -> bool:
        """Whether a caller may go on: no key was made or revoked since, and the session that they showed has not ended."""
        await self._keys.refresh()
        if caller.key_id is None:
            return not self.needs_key
        if self._keys.named(caller.key_id) is None:
            return False
        return caller.session is None or await self._sessions.key_id_of(caller.session) is not None

    def protective(self, path: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """What browsers are told about an answer that has these headers."""
        return protective(path, headers.get("content-type", ""), is_encrypted=self._settings.is_encrypted)

    async def _admitted(self, scope: Scope) -> Caller | None:
        """Who calls; None without a key where one is needed. Raises Problem, or Unreachable and StoreLost when keys cannot be read."""
        headers = Headers(scope=scope)
        await self._keys.refresh()
        if not self.needs_key and not is_loopback(host_of(headers.get("host", ""))):
            raise Problem(
                421,
                "foreign-host",
                "without API keys the gateway answers to localhost alone, so that no page elsewhere can pose as it; make a key to let others in",
            )
        if not is_safe(scope["method"]) and is_from_another_page(headers, self._settings.cors_origins):
            raise Problem(403, "foreign-origin", "a page of another origin may order nothing here; gateway.cors_origins lists those that may")
        caller = await self._caller(headers)
        if caller is not None and caller.key_id is not None:
            wait_s = self._buckets.wait_s(caller.key_id, self._clock())
            if wait_s > 0:
                raise Problem(429, "too-many-requests", f"key {caller.key_id} asks too often", headers={"retry-after": str(int(wait_s) + 1)})
        self._check_length(scope, headers)
        return caller

    async def _caller(self, headers: Headers) -> Caller | None:
        if not self.needs_key:
            return ANYONE_HERE
        text = _key_in(headers)
        if text is not None:
            key = self._keys.key_of(text)
            if key is None:
                raise unauthorised("this key opens nothing: it is mistyped, or was revoked")
            return holder(key)
        cookie = session_in(headers)
        key_id = None if cookie is None else await self._sessions.key_id_of(cookie)
        key = None if key_id is None else self._keys.named(key_id)
        return None if key is None else holder(key, cookie)  # a browser whose session ended, or whose key was revoked, is asked for a key

    def _most_bytes(self, scope: Scope) -> int:
        return self._settings.upload_bytes if scope["path"] in UPLOADS else self._settings.body_bytes

    def _check_length(self, scope: Scope, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        most = self._most_bytes(scope)
        if not length.isdecimal() or int(length) > most:
            raise Problem(413, "too-large", f"a body here has at most {most} bytes", headers={"connection": "close"})

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Receive no more than is allowed, whatever the request's headers say."""
        most, taken = self._most_bytes(scope), 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, f"a body here has at most {most} bytes", {"connection": "close"})  # the one error that FastAPI lets through
            return message

        return bounded

    async def note(self, scope: Scope, caller: Caller, status: int) -> None:
        """Write down what somebody did, before they are told: orders, refused ones too, and files that were handed out."""
        route = scope.get("route")
        if route is None or (is_safe(scope["method"]) and FILES.match(scope["path"]) is None):
            return
        client = scope.get("client")
        deed = Deed(
            at_ms=self._now_ms(),
            tenant=caller.tenant,
            who=caller.name,
            address=client[0] if client else "",
            action=scope["method"],
            path=scope["path"] if all(_NAME.fullmatch(str(name)) for name in scope["path_params"].values()) else route.path,  # what is no id may be text
            status=status,
        )
        try:
            await asyncio.to_thread(self._audit.add, deed)
        except (Unreachable, StoreLost) as error:  # it is done, and cannot be undone by saying nothing
            log.error("audit.unwritten", error=str(error), tenant=deed.tenant, who=deed.who, action=deed.action, path=deed.path, status=deed.status)


class _Answer:
    """What is sent in answer to a request: protective headers are added, and a stream ends when its key is revoked or its session ends."""

    def __init__(self, guard: Guard, scope: Scope, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._send = send
        self._is_stream = False
        self.caller: Caller | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
            for name, value in self._guard.protective(self._scope["path"], headers).items():
                headers.setdefault(name, value)
            if self._scope["path"].startswith("/api/"):
                headers.add_vary_header("Authorization, Cookie")
            if self.caller is not None:
                await self._guard.note(self._scope, self.caller, message["status"])
        elif self._is_stream and self.caller is not None and not await self._guard.is_good(self.caller):
            raise _KeyIsGone
        await self._send(message)


class _KeyIsGone(Exception):
    """The key that opened a stream was revoked, or the session ended."""


def _key_in(headers: Headers) -> str | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text else None
