"""The API keys as a gateway knows them: read from the store every few seconds, so that a request costs no query."""

import asyncio
from collections.abc import Callable

import structlog

from mistudio_explain.errors import Unreachable
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.keys import ApiKey, StoredKeys, parsed

FRESH_S = 2.0
"""A key that was revoked opens nothing after so long; one that was made opens as soon."""
STALE_S = 30.0
"""So long keys go on as they stood while the store does not answer; then nothing is let in."""

log = structlog.get_logger(__name__)


class KeyRing:
    """Who holds which key. Until a key was made none is needed; from then on one is, also once all are revoked.

    `clock` gives seconds that never go back.
    """

    def __init__(self, stored: StoredKeys, clock: Callable[[], float]) -> None:
        self._stored = stored
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    @property
    def needs_key(self) -> bool:
        """Whether requests must bring a key."""
        return bool(self._keys)

    async def refresh(self) -> None:
        """Read the keys anew where that is due. Raises Unreachable or StoreLost once they are too old to go by."""
        if not self._is_older_than(FRESH_S):
            return
        async with self._reading:
            if not self._is_older_than(FRESH_S):
                return
            try:
                keys = await asyncio.to_thread(self._stored.all)
            except (Unreachable, StoreLost) as error:
                if self._is_older_than(STALE_S):
                    raise
                log.warning("the API keys cannot be read; they count as they stood", error=str(error))
                return
            if keys or not self._keys:  # keys that are gone from a store whose file was removed still count: nothing opens by itself
                self._keys = {key.id: key for key in keys}
            self._read_at = self._clock()

    def key_of(self, text: str) -> ApiKey | None:
        """The key that a text opens; None when it opens none."""
        found = parsed(text)
        if found is None:
            return None
        key_id, secret = found
        key = self._keys.get(key_id, _NOBODYS)
        return key if key.is_opened_by(secret) else None

    def named(self, key_id: str) -> ApiKey | None:
        """The key that was made with an id; None when it opens nothing any more."""
        key = self._keys.get(key_id)
        return key if key is not None and key.revoked_ms is None else None

    def close(self) -> None:
        """Close the connection to the keys."""
        self._stored.close()

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._clock() - self._read_at > seconds


_NOBODYS = ApiKey("", "0" * 64, "", "read", "", 0)
"""Takes an unknown id's part, so that it is refused as late as a wrong secret."""
