"""Sessions of browsers: each is a random text in a cookie, and stands for the key that opened it until it ends.

The store has a digest of that text alone, so that nobody who reads it can pose as a browser; 256 random bits cannot be guessed, so a
plain digest will do. They lie beside the keys, so that all gateways of a fleet know them.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table
from mistudio_explain.store.keys import ACCESS, SECRET_BYTES

_TEXT = re.compile(r"[A-Za-z0-9_-]{43}")
_SESSION = Table("session", key=("digest",), texts=("digest", "key_id"), numbers=("until_ms",))


@dataclass(frozen=True, slots=True)
class Session:
    """What the store has of a session."""

    digest: str
    key_id: str
    """The key that opened it, and without which it opens nothing."""
    until_ms: int
    """When it ends, milliseconds since 1970 UTC."""


def opened(key_id: str, until_ms: int, random_bytes: Callable[[int], bytes]) -> tuple[Session, str]:
    """Open a session; gives what is kept of it, and the text that a browser gets."""
    text = base64.urlsafe_b64encode(random_bytes(SECRET_BYTES)).decode().rstrip("=")
    return Session(_digest(text), key_id, until_ms), text


def digest_of(text: str) -> str | None:
    """What is kept of a session's text; None for a text that is none's."""
    return _digest(text) if _TEXT.fullmatch(text) else None


class StoredSessions:
    """The sessions beside a store. Its methods block, and raise Unreachable or StoreLost when they cannot be read or written."""

    def __init__(self, settings: StoreSettings) -> None:
        self._beside = Beside(settings, ACCESS, (_SESSION,), indexes={_SESSION: ("until_ms",)}, private=True)

    def add(self, session: Session, now_ms: int) -> None:
        """Keep a session; those that have ended by now go."""

        def added(database: Database) -> None:
            database.delete(_SESSION, "until_ms <= ?", (now_ms,))
            database.put(_SESSION, [(session.digest, session.key_id, session.until_ms)])

        self._beside.call(added)

    def get(self, digest: str) -> Session | None:
        """A session by its text's digest; looking makes no database."""
        if not self._beside.exists():
            return None
        row = self._beside.call(lambda database: database.one("select digest, key_id, until_ms from session where digest = ?", (digest,)))
        return None if row is None else Session(*row)

    def remove(self, digest: str) -> None:
        """End a session."""
        self._beside.call(lambda database: database.delete(_SESSION, "digest = ?", (digest,)))

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
