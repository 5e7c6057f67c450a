"""The cookies of browsers: which session one stands for, looked up when it is first shown, and anew every few seconds."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from mistudio_explain.errors import Unreachable
from mistudio_explain.gateway.keyring import FRESH_S, STALE_S
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.sessions import Session, StoredSessions, digest_of, opened

COOKIE = "mistudio_explain_session"
_REMEMBERED = 10_000


def session_in(headers: Mapping[str, str]) -> str | None:
    """The text of the session in a request's cookies; None when there is none."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie is not None else None


@dataclass(frozen=True, slots=True)
class _Looked:
    session: Session | None
    at: float


class Sessions:
    """Which key a browser's cookie stands for. Its methods raise Unreachable or StoreLost when sessions cannot be read or written.

    `clock` gives seconds that never go back, `now_ms` milliseconds since 1970 UTC; a session lasts `for_ms`.
    """

    def __init__(
        self, stored: StoredSessions, for_ms: int, *, clock: Callable[[], float], now_ms: Callable[[], int], random_bytes: Callable[[int], bytes]
    ) -> None:
        self._stored = stored
        self._for_ms = for_ms
        self._clock = clock
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._looked: OrderedDict[str, _Looked] = OrderedDict()
        self._looking = asyncio.Lock()

    async def open(self, key_id: str) -> str:
        """Open a session for whoever showed a key; gives the text of its cookie."""
        now_ms = self._now_ms()
        session, text = opened(key_id, now_ms + self._for_ms, self._random_bytes)
        await asyncio.to_thread(self._stored.add, session, now_ms)
        return text

    async def key_id_of(self, text: str) -> str | None:
        """The id of the key that opened a session; None when the text is none's, or the session has ended."""
        digest = digest_of(text)
        if digest is None:
            return None
        looked = self._known(digest)
        if looked is None:
            async with self._looking:  # one after the other, so that made-up cookies keep the store no busier than one client would
                looked = self._known(digest) or await self._look(digest)
        session = looked.session
        return session.key_id if session is not None and self._now_ms() < session.until_ms else None

    async def end(self, text: str) -> None:
        """End a session: here at once, at other gateways within two seconds."""
        if (digest := digest_of(text)) is not None:
            await asyncio.to_thread(self._stored.remove, digest)
            self._looked.pop(digest, None)

    def close(self) -> None:
        """Close the connection to the sessions."""
        self._stored.close()

    def _known(self, digest: str, within_s: float = FRESH_S) -> _Looked | None:
        looked = self._looked.get(digest)
        return looked if looked is not None and self._clock() - looked.at <= within_s else None

    async def _look(self, digest: str) -> _Looked:
        try:
            looked = _Looked(await asyncio.to_thread(self._stored.get, digest), self._clock())
        except (Unreachable, StoreLost):
            if (before := self._known(digest, STALE_S)) is not None:
                return before
            raise
        self._looked[digest] = looked
        self._looked.move_to_end(digest)
        if len(self._looked) > _REMEMBERED:
            self._looked.popitem(last=False)
        return looked
