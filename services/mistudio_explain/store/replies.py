"""Answers to orders, kept for a day, so that an order that is sent again is not given again."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import orjson

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table

KEPT_MS = 86_400_000
GIVEN_UP_MS = 900_000
"""An order that has no answer after this time is given again: whoever gave it is gone. The longest, a question to a model, may take 600 s."""

_REPLY = Table("reply", key=("tenant", "name"), texts=("tenant", "name", "what", "headers"), numbers=("at_ms", "status"), bytes=("body",))
_OPEN = 0


class Claimed(Enum):
    """Who has an order."""

    HERE = "here"
    """Whoever asked: it is to be given."""
    ELSEWHERE = "elsewhere"
    """Somebody else, who is giving it."""
    OTHERWISE = "otherwise"
    """Nobody: the key is another order's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class StoredReplies:
    """The answers by tenant and key. Its methods block and may be called from any thread."""

    def __init__(self, settings: StoreSettings) -> None:
        self._beside = Beside(settings, "replies", (_REPLY,), indexes={_REPLY: ("at_ms",)})

    def claim(self, tenant: str, key: str, what: str, now_ms: int) -> Reply | Claimed:
        """The answer that an order was given before, else who has it; `what` is the hash of all that it says."""

        def claimed(database: Database) -> Reply | Claimed:
            with database.undisturbed():
                database.run("delete from reply where at_ms < ? or (status = ? and at_ms < ?)", (now_ms - KEPT_MS, _OPEN, now_ms - GIVEN_UP_MS))
                row = database.one("select what, status, headers, body from reply where tenant = ? and name = ?", (tenant, key))
                if row is None:
                    database.put(_REPLY, [(tenant, key, what, "{}", now_ms, _OPEN, b"")])
                    return Claimed.HERE
            before, status, headers, body = row
            if before != what:
                return Claimed.OTHERWISE
            return Claimed.ELSEWHERE if status == _OPEN else Reply(status, bytes(body), orjson.loads(headers))

        return self._beside.call(claimed)

    def keep(self, tenant: str, key: str, reply: Reply) -> None:
        """Keep the answer to an order that was claimed."""
        values = (reply.status, orjson.dumps(dict(reply.headers)).decode(), reply.body, tenant, key)
        self._beside.call(lambda database: database.run("update reply set status = ?, headers = ?, body = ? where tenant = ? and name = ?", values))

    def release(self, tenant: str, key: str) -> None:
        """Let an order that failed be given again."""
        self._beside.call(lambda database: database.run("delete from reply where tenant = ? and name = ? and status = ?", (tenant, key, _OPEN)))

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()
