"""The audit log of the gateway: who did what and when, without texts; rows are added, never changed, and go when they are old or too many.

It lies beside the store with the API keys, so that deleting a job, or building a store anew, leaves it alone.
"""

from dataclasses import dataclass

from mistudio_explain.settings import Settings, StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table
from mistudio_explain.store.keys import ACCESS, access_store

_DAY_MS = 86_400_000
_AT_ONCE = 100
"""Most old entries that go when one is added: nobody waits long, and a clock that is wrong for a moment costs little."""

_AUDIT = Table(
    "audit",
    key=("id",),
    texts=("tenant", "who", "address", "action", "path"),
    numbers=("id", "at_ms"),
    optional_numbers=("status",),
)


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that somebody did, or tried to do."""

    at_ms: int
    """Milliseconds since 1970 UTC."""
    tenant: str
    """Whose jobs it was about."""
    who: str
    """Id of the API key; `loopback` where the gateway needs none, `shell` for the command line."""
    address: str
    """Where the request came from; empty for the command line."""
    action: str
    """The request's method, or a command such as `keys create`."""
    path: str
    """The resource: a path without its query, or what the command was about."""
    status: int | None = None
    """The answer's HTTP status; absent for the command line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A deed as it stands in the log."""

    id: int
    """Grows with each entry."""
    deed: Deed


class StoredAudit:
    """The audit log beside a store. Its methods block, and raise Unreachable or StoreLost when it cannot be read or written.

    Entries that are `kept_ms` older than the newest go, and the oldest of more than `most`.
    """

    def __init__(self, settings: StoreSettings, *, kept_ms: int, most: int) -> None:
        self._beside = Beside(settings, ACCESS, (_AUDIT,), indexes={_AUDIT: ("at_ms",)}, durable=True, private=True)
        self._kept_ms = kept_ms
        self._most = most

    def add(self, deed: Deed) -> None:
        """Write a deed down; it survives a power cut once this returns."""
        self._beside.call(lambda database: _add(database, deed, deed.at_ms - self._kept_ms, self._most))

    def newest(self, limit: int, *, tenant: str | None = None, before: int | None = None) -> list[Entry]:
        """Entries, newest first: of one tenant or all, those older than the entry `before`; looking makes no database."""
        if not self._beside.exists():
            return []
        conditions = [*(["tenant = ?"] if tenant is not None else []), *(["id < ?"] if before is not None else [])]
        where = f"where {' and '.join(conditions)} " if conditions else ""
        values = [value for value in (tenant, before, limit) if value is not None]
        query = f"select id, at_ms, tenant, who, address, action, path, status from audit {where}order by id desc limit ?"  # noqa: S608
        return [Entry(number, Deed(*deed)) for number, *deed in self._beside.call(lambda database: database.all(query, values))]

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()


def audit_log(settings: Settings) -> StoredAudit:
    """The audit log of the settings."""
    gateway = settings.gateway
    return StoredAudit(access_store(settings), kept_ms=int(gateway.audit_days * _DAY_MS), most=gateway.audit_entries)


def _add(database: Database, deed: Deed, before_ms: int, most: int) -> None:
    with database.undisturbed():  # several gateways may write at once
        (last,) = database.one("select coalesce(max(id), 0) from audit") or (0,)
        database.put(_AUDIT, [(deed.tenant, deed.who, deed.address, deed.action, deed.path, last + 1, deed.at_ms, deed.status)])
        for column, below in (("at_ms", before_ms), ("id", last + 2 - most)):
            database.delete(_AUDIT, f"id in (select id from audit where {column} < ? order by {column} limit ?)", (below, _AT_ONCE))  # noqa: S608
