"""Errors as RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from mistudio_explain.errors import BadInput, ExplainError, MalformedEvent, Unreachable, told
from mistudio_explain.store.database import StoreLost

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_URN = "urn:mistudio-explain:problem:"
AGAIN = {"retry-after": "5"}
"""What a client is asked to wait when something that the gateway needs is away, seconds."""


class Problem(ExplainError):
    """An answer that is an error. `kind` is the last part of the problem's type, `status` the HTTP status."""

    def __init__(self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.headers = headers


class Flaw(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="Where: path, query, header or body, and the name in it.")
    what: str = Field(description="What is wrong with it.")


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="What kind of problem it is: urn:mistudio-explain:problem: and a name.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, where, why, and what to do.")
    flaws: list[Flaw] | None = Field(default=None, description="What is wrong with the request, when it is not as this description says.")


def no_such_job(job: str) -> Problem:
    """A job that is not there, or is another tenant's: the two answers are the same."""
    return Problem(404, "no-such-job", f"there is no job {job!r}")


def problem_of(error: Exception) -> Problem:
    """An error of ours as a problem, in words for whoever asked; what it says of addresses and files on the way to what is away stays in the log."""
    match error:
        case Problem():
            return error
        case BadInput() | MalformedEvent():
            return Problem(400, "bad-input", error.over_http)
        case Unreachable() | StoreLost():
            log.warning("gateway.unreachable", error=str(error))
            return Problem(503, "unreachable", "something that the gateway needs does not answer; its log says what", headers=AGAIN)
        case _:
            log.error("gateway.failed", error=told(error))
            return Problem(500, "failed", "the gateway failed; its log says why")


def respond(status: int, kind: str, detail: str, *, flaws: Sequence[Mapping[str, str]] | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response."""
    body: dict[str, Any] = {"type": _URN + kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if flaws is not None:
        body["flaws"] = flaws
    return Response(orjson.dumps(body), status, {"cache-control": "no-store", **(headers or {})}, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of an application be a problem."""
    app.add_exception_handler(ExplainError, _explained)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _explained(_: Request, error: Exception) -> Response:
    return explained(error)


def explained(error: Exception) -> Response:
    """An error of ours as a response."""
    problem = problem_of(error)
    return respond(problem.status, problem.kind, str(problem), headers=problem.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    flaws = [{"where": ".".join(map(str, each["loc"])), "what": str(each["msg"])} for each in error.errors()]  # never the input itself
    return respond(422, "invalid-request", "; ".join(f"{flaw['where']}: {flaw['what']}" for flaw in flaws), flaws=flaws)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "too-large" if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return respond(error.status_code, kind, str(error.detail), headers=error.headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("gateway.fault", error=type(error).__name__, exc_info=error)
    return respond(500, "fault", "the gateway failed; its log says why")
