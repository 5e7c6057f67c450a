"""API keys of the gateway: made, listed and revoked; of a key the store has a hash alone.

They lie beside the store and not in it, so that a store that is built anew keeps them, and so that all gateways of a
fleet share them. A key is `mse_<id>_<secret>`: the id names it in lists and in the audit log, the secret is 256 random
bits. Such a secret cannot be guessed however fast its hash is, so a slow hash would buy nothing and cost every request;
it is an HMAC-SHA-256 under the key's id, so that a hash copied to another row opens nothing.
"""

import base64
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from mistudio_explain.errors import BadInput
from mistudio_explain.settings import Settings, StoreSettings
from mistudio_explain.store.beside import Beside
from mistudio_explain.store.database import Database, Table

ACCESS = "access"
"""The database beside the store that holds keys, sessions and the audit log."""

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each includes those before it."""

SECRET_BYTES = 32
_ID_BYTES = 5
_KEY = re.compile(r"mse_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
_TENANT = re.compile(r"[a-z0-9-]{1,40}")
_LONGEST_NAME = 100

API_KEY = Table(
    "api_key",
    key=("id",),
    texts=("id", "hash", "tenant", "scope", "name"),
    numbers=("made_ms",),
    optional_numbers=("revoked_ms",),
)


def access_store(settings: Settings) -> StoreSettings:
    """The store beside which keys, sessions and the audit log lie."""
    url = settings.gateway.access_url
    return settings.store if url is None else settings.store.model_copy(update={"url": url})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the store has of a key; moments in milliseconds since 1970 UTC."""

    id: str
    hash: str
    tenant: str
    scope: Scope
    name: str
    """What people call it: whose it is, what for."""
    made_ms: int
    revoked_ms: int | None = None

    @property
    def scopes(self) -> frozenset[Scope]:
        """What it may do."""
        return frozenset(SCOPES[: SCOPES.index(self.scope) + 1])

    def is_opened_by(self, secret: str) -> bool:
        """Whether this is its secret and it is not revoked; takes as long whatever the answer is."""
        return hmac.compare_digest(self.hash, hash_of(self.id, secret)) and self.revoked_ms is None


def hash_of(key_id: str, secret: str) -> str:
    """What is kept of a secret, 64 hexadecimal digits."""
    return hmac.digest(f"mistudio-explain key {key_id}".encode(), secret.encode(), "sha256").hex()


def made(tenant: str, scope: str, name: str, *, now_ms: int, random_bytes: Callable[[int], bytes]) -> tuple[ApiKey, str]:
    """Make a key; gives what is kept of it, and the key itself, which nobody can tell again. Raises BadInput."""
    if _TENANT.fullmatch(tenant) is None:
        raise BadInput(f"tenant {tenant!r}: it is 1 to 40 characters out of a-z, 0-9 and -")
    if scope not in SCOPES:
        raise BadInput(f"scope {scope!r}: it is one of {', '.join(SCOPES)}, each of which includes those before it")
    if not 0 < len(name.strip()) <= _LONGEST_NAME or not name.isprintable():
        raise BadInput(f"name {name[:_LONGEST_NAME]!r}: say in 1 to {_LONGEST_NAME} printable characters whose key it is, or what for")
    key_id = base64.b32encode(random_bytes(_ID_BYTES)).decode().lower()
    secret = base64.urlsafe_b64encode(random_bytes(SECRET_BYTES)).decode().rstrip("=")
    return ApiKey(key_id, hash_of(key_id, secret), tenant, scope, name.strip(), now_ms), f"mse_{key_id}_{secret}"


def parsed(key: str) -> tuple[str, str] | None:
    """The id and the secret of a key; None when it is not built like one."""
    found = _KEY.fullmatch(key)
    return None if found is None else (found[1], found[2])


class StoredKeys:
    """The keys beside a store. Its methods block, and raise Unreachable or StoreLost when the keys cannot be read or written."""

    def __init__(self, settings: StoreSettings) -> None:
        self._beside = Beside(settings, ACCESS, (API_KEY,), durable=True, private=True)

    def all(self) -> list[ApiKey]:
        """Every key that was ever made, revoked ones included, oldest first; looking makes no database."""
        if not self._beside.exists():
            return []
        columns = "id, hash, tenant, scope, name, made_ms, revoked_ms"
        return [ApiKey(*row) for row in self._beside.call(lambda database: database.all(f"select {columns} from api_key order by made_ms, id"))]  # noqa: S608

    def add(self, key: ApiKey) -> None:
        """Keep a key."""
        row = (key.id, key.hash, key.tenant, key.scope, key.name, key.made_ms, key.revoked_ms)
        statement = "insert into api_key(id, hash, tenant, scope, name, made_ms, revoked_ms) values(?, ?, ?, ?, ?, ?, ?)"
        self._beside.call(lambda database: database.run(statement, row))

    def revoke(self, key_id: str, now_ms: int) -> ApiKey:
        """Let a key open nothing any more; revoking twice keeps the first moment. Raises BadInput for an unknown one."""
        if key_id not in {key.id for key in self.all()}:
            raise BadInput(f"there is no key {key_id!r}; `mistudio-explain keys list` shows them")
        self._beside.call(lambda database: _revoke(database, key_id, now_ms))
        return next(key for key in self.all() if key.id == key_id)

    def close(self) -> None:
        """Close the connection."""
        self._beside.close()


def _revoke(database: Database, key_id: str, now_ms: int) -> None:
    database.run("update api_key set revoked_ms = ? where id = ? and revoked_ms is null", (now_ms, key_id))
