"""A browser's session: the key in a cookie that no script can read, so that links to files and streams of events carry it."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from mistudio_explain.gateway.access import ANYONE_HERE, Caller, Reader, holder, unauthorised
from mistudio_explain.gateway.parts import Here
from mistudio_explain.store.keys import Scope

COOKIE = "mistudio_explain_key"

router = APIRouter(tags=["session"])


class Opening(BaseModel):
    """What opens a session."""

    key: Annotated[SecretStr, Field(max_length=200, description="An API key.")]


class Identity(BaseModel):
    """Who calls."""

    tenant: str = Field(description="Whose jobs they see.")
    scopes: list[Scope] = Field(description="What they may do: read, write, admin.")
    key_id: str | None = Field(description="Which key they hold; null on a gateway that needs none.")


@router.get("/session", response_model=Identity)
async def show_session(caller: Reader) -> Identity:
    """Say who calls."""
    return _identity(caller)


@router.post("/session", response_model=Identity)
async def open_session(request: Request, response: Response, gateway: Here, opening: Opening) -> Identity:
    """Exchange a key for a cookie that holds it until the browser is closed, for requests of the gateway's own pages alone."""
    ring = request.app.state.keys
    if not request.state.needs_key:
        return _identity(ANYONE_HERE)
    text = opening.key.get_secret_value()
    key = ring.key_of(text)
    if key is None:
        raise unauthorised("this key opens nothing: it is mistyped, or was revoked")
    response.set_cookie(COOKIE, text, path="/", secure=gateway.settings.gateway.is_encrypted, httponly=True, samesite="strict")
    return _identity(holder(key))


@router.delete("/session", status_code=204, response_class=Response)
async def close_session(response: Response) -> None:
    """Forget the cookie."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def _identity(caller: Caller) -> Identity:
    return Identity(tenant=caller.tenant, scopes=sorted(caller.scopes), key_id=caller.key_id)
