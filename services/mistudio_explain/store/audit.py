"""The audit log of the gateway: who did what and when, without texts; rows are added and never changed.

It lies beside the store with the API keys, so that deleting a job, or building a store anew, leaves it alone.
"""

from dataclasses import dataclass

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table
from mistudio_explain.store.keys import ACCESS

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
    """The audit log beside a store. Its methods block, and raise Unreachable or StoreLost when it cannot be read or written."""

    def __init__(self, settings: StoreSettings) -> None:
        self._beside = Beside(settings, ACCESS, (_AUDIT,), durable=True)

    def add(self, deed: Deed) -> None:
        """Write a deed down; it survives a power cut once this returns."""
        self._beside.call(lambda database: _add(database, deed))

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


def _add(database: Database, deed: Deed) -> None:
    with database.undisturbed():  # several gateways may write at once
        (last,) = database.one("select coalesce(max(id), 0) from audit") or (0,)
        database.put(_AUDIT, [(deed.tenant, deed.who, deed.address, deed.action, deed.path, last + 1, deed.at_ms, deed.status)])
