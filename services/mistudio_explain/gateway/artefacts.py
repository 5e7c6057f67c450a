"""A job's files: its reports and what other programs read."""

import re
from collections.abc import Iterator
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from mistudio_explain.gateway.access import Reader
from mistudio_explain.gateway.answers import is_kept, read_answer
from mistudio_explain.gateway.jobs import known_job
from mistudio_explain.gateway.names import JobId
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.reporting.shelf import shelf_of

router = APIRouter(tags=["files"])

FileName = Annotated[
    str,
    InPath(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$", description="A file's name, as the list has it.", examples=["feature_explanations.json"]),
]
_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".pdf": "application/pdf",
    ".parquet": "application/vnd.apache.parquet",
    ".gz": "application/gzip",
}
_ANY = "application/octet-stream"


class File(BaseModel):
    """A file of a job."""

    name: str = Field(description="Its name.")
    size: int = Field(description="Bytes.")
    content_type: str = Field(description="Its media type.")
    sha256: str | None = Field(description="Hash of its bytes, hex, as the job's report has it; null for a file that the report does not name.")
    modified_ms: int = Field(description="When it was written, milliseconds since 1970 UTC.")


class Files(BaseModel):
    """The files of a job."""

    files: list[File] = Field(description="The files, by name.")


@router.get("/jobs/{job}/files", response_model=Files)
async def list_files(request: Request, gateway: Here, caller: Reader, job: JobId) -> Response:
    """List a job's files; there are none before its end."""
    known = await known_job(gateway, caller, job)
    hashes = {} if known.report is None else {artefact.uri.rpartition("/")[2]: artefact.sha256 for artefact in known.report.artefacts}
    return read_answer(request, {"files": await run_in_threadpool(lambda: list(_listed(gateway, job, hashes)))})


@router.get(
    "/jobs/{job}/files/{name}",
    response_class=Response,
    responses={
        200: {"description": "The whole file.", "content": {kind: {} for kind in (*_TYPES.values(), _ANY)}},
        206: {"description": "A part of it.", "content": {_ANY: {}}},
        416: {"description": "The range lies beyond its end."},
    },
)
async def read_file(request: Request, gateway: Here, caller: Reader, job: JobId, name: FileName) -> Response:
    """Read a file, or a range of its bytes."""
    await known_job(gateway, caller, job)
    shelf = _shelf(gateway.settings.reports)
    found = next((each for each in await run_in_threadpool(shelf.files, job) if each.name == name), None)
    if found is None:
        raise Problem(404, "no-such-file", f"job {job} has no file {name!r}")
    tag = f'"{found.tag}"'
    headers = {
        "etag": tag,
        "last-modified": formatdate(found.modified_ms / 1000, usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
    }
    if is_kept(request.headers, tag):
        return Response(status_code=304, headers=headers)
    kind = _type_of(name)
    asked = request.headers.get("range") if request.headers.get("if-range") in (None, tag) else None
    first, last = _range(asked, found.size) or (0, found.size - 1)
    headers["content-length"] = str(last - first + 1)
    if asked is not None and (first, last) != (0, found.size - 1):
        headers["content-range"] = f"bytes {first}-{last}/{found.size}"
        return StreamingResponse(shelf.pieces(job, name, first, last), 206, headers, kind)
    return StreamingResponse(shelf.pieces(job, name, first, last), 200, headers, kind)


class RangesAsTheyAre:
    """Lets no range of a file be compressed: a range counts the file's own bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and any(name == b"range" for name, _ in scope["headers"]):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self._app(scope, receive, send)


_shelf = cache(shelf_of)
"""Where the files are; a bucket's connections are kept."""


def _listed(gateway: Gateway, job: str, hashes: dict[str, str]) -> Iterator[dict[str, object]]:
    for file in _shelf(gateway.settings.reports).files(job):
        yield {
            "name": file.name,
            "size": file.size,
            "content_type": _type_of(file.name),
            "sha256": hashes.get(file.name),
            "modified_ms": file.modified_ms,
        }


def _type_of(name: str) -> str:
    return _TYPES.get(Path(name).suffix, _ANY)


def _range(asked: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of the one range that is asked for; None for what is to be answered whole (RFC 9110, 14.2)."""
    found = re.fullmatch(r"bytes=(\d{0,19})-(\d{0,19})", (asked or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return None
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first >= size or last < first:
        raise Problem(416, "no-such-range", f"the file has {size} bytes", headers={"content-range": f"bytes */{size}"})
    return first, last
