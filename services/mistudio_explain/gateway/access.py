"""Who calls, and what they may do; the guard (guard.py) has found that out before a route is reached."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from mistudio_explain.events.identity import DEFAULT_TENANT
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.store.keys import SCOPES, ApiKey, Scope

LOOPBACK = "loopback"
"""Who calls a gateway that needs no keys: whoever is on its machine."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: every query and every order is limited to the tenant."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None
    """Which key they showed; None on a gateway without keys."""
    session: str | None = field(default=None, repr=False)
    """The text of the browser's session that stands for the key; None for whoever showed the key itself."""

    @property
    def name(self) -> str:
        """What the audit log calls them."""
        return self.key_id or LOOPBACK


ANYONE_HERE = Caller(DEFAULT_TENANT, frozenset(SCOPES), None)
"""Whoever calls a gateway that needs no keys."""

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, as `mistudio-explain keys create` made it; needed once a key was made.")


def holder(key: ApiKey, session: str | None = None) -> Caller:
    """Who shows a key, or a session that stands for it."""
    return Caller(key.tenant, key.scopes, key.id, session)


def unauthorised(detail: str) -> Problem:
    """A request without a key that opens anything."""
    return Problem(401, "no-key", detail, headers={"www-authenticate": 'Bearer realm="miStudioExplain"'})


def _with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def caller(request: Request, _: Annotated[object, Security(_bearer)]) -> Caller:
        found: Caller | None = getattr(request.state, "caller", None)
        if found is None:
            raise unauthorised("this gateway needs an API key: send it as `Authorization: Bearer mse_...`; `mistudio-explain keys create` makes one")
        if scope not in found.scopes:
            raise Problem(403, "scope-too-small", f"key {found.key_id} may {' and '.join(sorted(found.scopes))}; this needs a key that may {scope}")
        return found

    return caller


reads = _with("read")
"""A caller who may read."""
writes = _with("write")
"""A caller who may order something."""
administers = _with("admin")
"""A caller who may see and change what concerns all jobs."""

Reader = Annotated[Caller, Depends(reads)]
Writer = Annotated[Caller, Depends(writes)]
Administrator = Annotated[Caller, Depends(administers)]
