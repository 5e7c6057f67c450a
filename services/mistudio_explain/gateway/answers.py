"""Answers of the gateway: JSON with an ETag, and nothing at all when the caller has it already."""

import hashlib
from collections.abc import Mapping

import orjson
from fastapi import Request, Response

_JSON = "application/json"
KEEPABLE = "keepable"
"""In the state of a request whose answer may be kept."""


def read_answer(request: Request, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer to a read: 304 when the caller has these very bytes."""
    body = orjson.dumps(content)
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    kept = {"etag": tag, "cache-control": "private, no-cache", **(headers or {})}
    if is_kept(request.headers, tag):
        return Response(status_code=304, headers=kept)
    return Response(body, headers=kept, media_type=_JSON)


def stored_answer(request: Request, content: object) -> Response:
    """An answer made of nothing but the store's rows and what the topics say of jobs: it may be kept until these change (kept.py)."""
    setattr(request.state, KEEPABLE, True)
    return read_answer(request, content)


def written(content: object, status: int, *, location: str | None = None) -> Response:
    """An answer to an order; `location` is where what it made can be seen."""
    headers = {"cache-control": "no-store"} | ({} if location is None else {"location": location})
    return Response(orjson.dumps(content), status, headers, _JSON)


def is_kept(asked: Mapping[str, str], tag: str) -> bool:
    """Whether the headers of a request say that the caller has what bears an ETag."""
    named = asked.get("if-none-match")
    return named is not None and (named.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in named.split(",")})
