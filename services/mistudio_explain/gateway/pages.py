"""The explorer: the web page of the gateway, out of the package's own files."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from mistudio_explain.gateway.answers import is_kept

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Stricter than other answers' (headers.py): with trusted types a browser refuses to make markup out of any text."""
_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    tag: str
    media_type: str


@router.get("/")
async def start() -> Response:
    """Send whoever opens the gateway's address to the explorer."""
    return RedirectResponse("explorer/", 307)


@router.get("/explorer/")
@router.get("/explorer/{name}")
async def page(request: Request, name: str = _INDEX) -> Response:
    """One of the explorer's files, to be asked for again each time: a newer version never mixes with one that was kept."""
    found = _files().get(name)
    if found is None:
        raise HTTPException(404, f"the explorer has no file {name!r}")
    headers = {"etag": found.tag, "cache-control": "no-cache", "content-security-policy": _POLICY}
    if is_kept(request.headers, found.tag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.media_type)


@cache
def _files() -> dict[str, _File]:
    found = {}
    for each in (resources.files("mistudio_explain.gateway") / "web").iterdir():
        suffix = each.name.rpartition(".")[2]
        if suffix in _TYPES:
            body = each.read_bytes()
            found[each.name] = _File(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"', _TYPES[suffix])
    return found
