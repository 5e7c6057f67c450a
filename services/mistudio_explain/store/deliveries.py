"""Which receivers were told of which jobs' ends, beside the store: what is not accepted yet survives a restart."""

from dataclasses import dataclass

from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table

PENDING, ACCEPTED, GIVEN_UP = "pending", "accepted", "given up"

_RECEIVER = Table("receiver", key=("name",), texts=("name",), numbers=("since_ms",))
"""Since when a receiver is configured: it is told of nothing that ended before."""
_DELIVERY = Table(
    "delivery",
    key=("id", "receiver"),
    texts=("id", "receiver", "job", "tenant", "state"),
    numbers=("made_ms", "tried_ms", "attempts"),
    bytes=("body",),
    optional_texts=("said",),
)
_COLUMNS = "id, receiver, job, tenant, state, made_ms, tried_ms, attempts, said"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for a receiver, and how it stands; moments in milliseconds since 1970 UTC."""

    id: str
    receiver: str
    job: str
    tenant: str
    state: str
    """pending, accepted or given up."""
    made_ms: int
    tried_ms: int
    """When it was last tried, or taken up."""
    attempts: int
    said: str | None
    """How the last attempt ended."""


class StoredDeliveries:
    """The messages beside a store. Its methods block, and raise Unreachable or StoreLost when it cannot be read or written."""

    def __init__(self, settings: StoreSettings) -> None:
        self._beside = Beside(settings, "webhooks", (_RECEIVER, _DELIVERY), durable=True)

    def since(self, receiver: str, now_ms: int) -> int:
        """Since when a receiver is known: from now on, if it was not."""

        def known(database: Database) -> int:
            with database.undisturbed():
                row = database.one("select since_ms from receiver where name = ?", (receiver,))
                if row is None:
                    database.put(_RECEIVER, [(receiver, now_ms)])
                return now_ms if row is None else row[0]

        return self._beside.call(known)

    def add(self, delivery: Delivery, body: bytes) -> bool:
        """Keep a message; False when it is known already, so that one of several gateways alone takes it up."""

        def added(database: Database) -> bool:
            with database.undisturbed():
                if database.one("select 1 from delivery where id = ? and receiver = ?", (delivery.id, delivery.receiver)) is not None:
                    return False
                texts = (delivery.id, delivery.receiver, delivery.job, delivery.tenant, delivery.state)
                database.put(_DELIVERY, [(*texts, delivery.made_ms, delivery.tried_ms, delivery.attempts, body, delivery.said)])
                return True

        return self._beside.call(added)

    def take_up(self, tried_before_ms: int, now_ms: int) -> list[tuple[Delivery, bytes]]:
        """Pending messages that nobody has tried since a moment; they count as tried now, so that no other gateway takes them too."""

        def taken(database: Database) -> list[tuple[Delivery, bytes]]:
            with database.undisturbed():
                rows = database.all(f"select {_COLUMNS}, body from delivery where state = ? and tried_ms < ?", (PENDING, tried_before_ms))  # noqa: S608
                database.run("update delivery set tried_ms = ? where state = ? and tried_ms < ?", (now_ms, PENDING, tried_before_ms))
                return [(Delivery(*row[:-1]), bytes(row[-1])) for row in rows]

        return self._beside.call(taken)

    def tried(self, delivery: Delivery) -> None:
        """Note how an attempt ended."""
        statement = "update delivery set state = ?, tried_ms = ?, attempts = ?, said = ? where id = ? and receiver = ?"
        values = (delivery.state, delivery.tried_ms, delivery.attempts, delivery.said, delivery.id, delivery.receiver)
        self._beside.call(lambda database: database.run(statement, values))

    def newest(self, tenant: str, limit: int) -> list[Delivery]:
        """Messages about a tenant's jobs, newest first; looking makes no database."""
        if not self._beside.exists():
            return []
        query = f"select {_COLUMNS} from delivery where tenant = ? order by made_ms desc, id, receiver limit ?"  # noqa: S608
        return [Delivery(*row) for row in self._beside.call(lambda database: database.all(query, (tenant, limit)))]

    def forget(self, before_ms: int) -> None:
        """Forget messages that were settled before a moment."""
        self._beside.call(lambda database: database.run("delete from delivery where state <> ? and tried_ms < ?", (PENDING, before_ms)))

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()
