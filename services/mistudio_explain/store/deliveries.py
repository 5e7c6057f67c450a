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
    numbers=("made_ms", "tried_ms", "attempts", "due_ms"),
    bytes=("body",),
    optional_texts=("said",),
)
"""`due_ms`: when a pending message is to be tried, by the clock of the database; while somebody tries it, when others may think them gone."""
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
    """When it was last tried; when it was made, before that."""
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
        """Keep a message, to be tried at once; False when it is known already, as several gateways hear of the same end."""

        def added(database: Database) -> bool:
            with database.undisturbed():
                if database.one("select 1 from delivery where id = ? and receiver = ?", (delivery.id, delivery.receiver)) is not None:
                    return False
                texts = (delivery.id, delivery.receiver, delivery.job, delivery.tenant, delivery.state)
                database.put(_DELIVERY, [(*texts, delivery.made_ms, delivery.tried_ms, delivery.attempts, 0, body, delivery.said)])
                return True

        return self._beside.call(added)

    def take_due(self, receiver: str, limit: int, lease_ms: int) -> list[tuple[Delivery, bytes]]:
        """Messages for a receiver that are to be tried now, at most `limit`; nobody else gets them until `lease_ms` are over."""

        def taken(database: Database) -> list[tuple[Delivery, bytes]]:
            with database.undisturbed():
                now_ms = database.now_ms()
                due = "state = ? and receiver = ? and due_ms <= ?"
                rows = database.all(
                    f"select {_COLUMNS}, body from delivery where {due} order by due_ms, made_ms, id limit ?",  # noqa: S608
                    (PENDING, receiver, now_ms, limit),
                )
                database.run_many("update delivery set due_ms = ? where id = ? and receiver = ?", [(now_ms + lease_ms, row[0], receiver) for row in rows])
                return [(Delivery(*row[:-1]), bytes(row[-1])) for row in rows]

        return self._beside.call(taken)

    def due_in_ms(self, receiver: str) -> int | None:
        """How long until a message for a receiver is to be tried; None when none is pending."""

        def due(database: Database) -> int | None:
            (first,) = database.one("select min(due_ms) from delivery where state = ? and receiver = ?", (PENDING, receiver)) or (None,)
            return None if first is None else max(0, int(first) - database.now_ms())

        return self._beside.call(due)

    def tried(self, delivery: Delivery, again_in_ms: int = 0) -> None:
        """Note how an attempt ended; a message that is still pending is to be tried again after `again_in_ms`."""

        def noted(database: Database) -> None:
            statement = "update delivery set state = ?, tried_ms = ?, attempts = ?, said = ?, due_ms = ? where id = ? and receiver = ?"
            due_ms = database.now_ms() + again_in_ms
            database.run(statement, (delivery.state, delivery.tried_ms, delivery.attempts, delivery.said, due_ms, delivery.id, delivery.receiver))

        self._beside.call(noted)

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
