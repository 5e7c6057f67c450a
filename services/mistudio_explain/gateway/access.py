"""Who calls, and what they may do."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends

from mistudio_explain.events.identity import DEFAULT_TENANT

Scope = Literal["read", "write", "admin"]
EVERYTHING: frozenset[Scope] = frozenset({"read", "write", "admin"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: every query and every order is limited to the tenant."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None
    """Which key they showed; None on a gateway without keys."""


async def reads() -> Caller:
    """A caller who may read."""
    return Caller(DEFAULT_TENANT, EVERYTHING, None)


async def writes() -> Caller:
    """A caller who may order something."""
    return Caller(DEFAULT_TENANT, EVERYTHING, None)


async def administers() -> Caller:
    """A caller who may see and change what concerns all jobs."""
    return Caller(DEFAULT_TENANT, EVERYTHING, None)


Reader = Annotated[Caller, Depends(reads)]
Writer = Annotated[Caller, Depends(writes)]
Administrator = Annotated[Caller, Depends(administers)]
