"""Ids in paths.

An id may hold `/`, which would end its part of the path: there it is written as `%2F`, or as `~`, which no id holds and
every proxy lets through.
"""

from collections.abc import MutableMapping
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

SLASH = "~"


def in_path(name: str) -> str:
    """An id as a part of a path."""
    return name.replace("/", SLASH).replace(" ", "%20")


def _id(segment: str) -> str:
    return segment.replace(SLASH, "/")


JobId = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9._:~@ -]{1,200}$", description="The explain job's id; `/` in it written as `~` or %2F.", examples=["explain_1"]),
    AfterValidator(_id),
]
"""A job's id in a path."""
Feature = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9._:~@ -]{1,401}$",
        description="The feature's key in its job: its id, or source/id where the job covers several layers; `/` written as `~` or %2F.",
        examples=["348"],
    ),
    AfterValidator(_id),
]
"""A feature's key in a path."""


class SlashesInNames:
    """Keeps an encoded slash in its part of the path: frameworks decode paths before they split them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and b"%2" in (raw := scope.get("raw_path") or b""):
            _split_again(scope, raw)
        await self._app(scope, receive, send)


def _split_again(scope: MutableMapping[str, Any], raw: bytes) -> None:
    path = raw.split(b"?", 1)[0].decode("ascii", "replace")
    scope["path"] = unquote(path.replace("%2F", SLASH).replace("%2f", SLASH))
