"""A browser's session: a random text in a cookie that no script can read, so that links to files and streams of events carry it."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from mistudio_explain.gateway.access import ANYONE_HERE, Caller, Reader, holder, unauthorised
from mistudio_explain.gateway.cookies import COOKIE, session_in
from mistudio_explain.gateway.parts import Here
from mistudio_explain.store.keys import Scope

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
    """Exchange a key for the cookie of a session, which lasts until the browser is closed, `gateway.session_h` are over, or the key is revoked.

    The cookie is for requests of the gateway's own pages alone. A session that the browser had is ended.
    """
    if not request.state.needs_key:
        return _identity(ANYONE_HERE)
    key = request.app.state.keys.key_of(opening.key.get_secret_value())
    if key is None:
        raise unauthorised("this key opens nothing: it is mistyped, or was revoked")
    await _end(request)
    text = await request.app.state.sessions.open(key.id)
    response.set_cookie(COOKIE, text, path="/", secure=gateway.settings.gateway.is_encrypted, httponly=True, samesite="strict")
    return _identity(holder(key))


@router.delete("/session", status_code=204, response_class=Response)
async def close_session(request: Request, response: Response, gateway: Here) -> None:
    """End the browser's session: its cookie opens nothing any more."""
    await _end(request)
    response.delete_cookie(COOKIE, path="/", secure=gateway.settings.gateway.is_encrypted, httponly=True, samesite="strict")


async def _end(request: Request) -> None:
    if (text := session_in(request.headers)) is not None:
        await request.app.state.sessions.end(text)


def _identity(caller: Caller) -> Identity:
    return Identity(tenant=caller.tenant, scopes=sorted(caller.scopes), key_id=caller.key_id)
