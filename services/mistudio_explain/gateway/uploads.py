"""Makes jobs: from a file that is sent along, or from one that miStudioFind left in its folder."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mistudio_explain.errors import BadInput
from mistudio_explain.events.identity import DEFAULT_TENANT
from mistudio_explain.events.model import Id
from mistudio_explain.gateway.access import Caller, Writer
from mistudio_explain.gateway.answers import written
from mistudio_explain.gateway.names import in_path
from mistudio_explain.gateway.once import Once
from mistudio_explain.gateway.orders import Body
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.intake.formats.choice import Format, read_input
from mistudio_explain.intake.locate import locate
from mistudio_explain.intake.order import admitted, check_something_is_explained, request_for
from mistudio_explain.intake.service import publish_job
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.settings import Settings

router = APIRouter(tags=["jobs"])

_FILE = "upload.json"
_KINDS = ("application/json", "application/octet-stream")


class Options(Body):
    """How a find job is explained."""

    target_model: str | None = Field(
        default=None, min_length=1, max_length=400, description="The model that the features belong to, when the input names none.", examples=["gpt2-small"]
    )
    explain_poor: bool | None = Field(default=None, description="Explain features below the coherence threshold too; absent: as the gateway is set.")
    candidates: int | None = Field(default=None, ge=1, le=10, description="Answers asked for each feature, the best of which is taken.")
    keep_going: bool = Field(default=False, description="Leave bad features out, say which, and go on with the rest.")
    reopen: bool = Field(default=False, description="Explain a job that was cancelled or deleted anew, under its next revision.")


class UploadOptions(Options):
    """How what is uploaded is read and explained."""

    format: Format = Field(default="auto", description="What the file is; auto: the gateway looks.")
    find_job_id: Id | None = Field(default=None, description="The find job that it must be of; names the job where the format has no such id.")


class FindJobOrder(Options):
    """A find job that miStudioFind left in its folder."""

    find_job_id: Id = Field(description="The find job.", examples=["find_1"])


class Created(BaseModel):
    """A job whose features were all published."""

    explain_job_id: str = Field(description="The job.")
    find_job_id: str = Field(description="The find job whose features it explains.")
    published: int = Field(description="Features that were published; the job is sealed with this number.")
    left_out: list[str] = Field(description="What was wrong with features that were left out.")


@dataclass(frozen=True, slots=True)
class _Spooled:
    path: Path
    sha256: str


@router.post("/jobs", response_model=Created, status_code=201)
async def create_job(gateway: Here, caller: Writer, once: Once, order: FindJobOrder) -> Response:
    """Explain a find job out of miStudioFind's folder; published twice it changes nothing."""
    root = gateway.settings.gateway.data_root
    if root is None:
        raise Problem(409, "no-data-root", "gateway.data_root is not set, so find jobs cannot be found by their id; upload the file instead")
    if caller.tenant != DEFAULT_TENANT:
        raise Problem(403, "not-yours", "find jobs by id belong to the default tenant; upload the file instead")

    async def create() -> Response:
        path = await run_in_threadpool(locate, order.find_job_id, root)
        return await _created(gateway, caller, path, order, order.find_job_id)

    return await once(order.model_dump_json(), create)


@router.post(
    "/uploads",
    response_model=Created,
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {kind: {"schema": {"description": "The file."}} for kind in _KINDS}}},
)
async def upload_job(request: Request, gateway: Here, caller: Writer, once: Once, options: Annotated[UploadOptions, Query()]) -> Response:
    """Explain the features in a file, sent as the body: one that miStudioFind wrote, or of another format; uploaded twice it changes nothing."""
    async with _spooled(request) as spooled:
        return await once(spooled.sha256, lambda: _created(gateway, caller, spooled.path, options, options.find_job_id, options.format))


async def _created(gateway: Gateway, caller: Caller, path: Path, options: Options, find_job_id: str | None, given_as: Format = "find") -> Response:
    gateway.check_kafka()
    settings = _as_asked(gateway.settings, options)
    job = await run_in_threadpool(_read, path, settings, options, find_job_id, given_as)
    stream, now_ms = gateway.stream, gateway.now_ms()
    async with gateway.writing():
        request = await admitted(gateway.clients, stream.producer, job, request_for(job, settings, caller.tenant), reopen=options.reopen, now_ms=now_ms)
    sent = await publish_job(stream.producer, job, request, None, now_ms)
    content = {
        "explain_job_id": request.explain_job_id,
        "find_job_id": job.find_job_id,
        "published": sent,
        "left_out": [str(problem).replace(f"{path}: ", "") for problem in job.problems],
    }
    return written(content, 201, location=f"/api/v1/jobs/{in_path(request.explain_job_id)}")


def _read(path: Path, settings: Settings, options: Options, find_job_id: str | None, given_as: Format) -> FindJob:
    try:
        job = read_input(
            path,
            given_as,
            target_model=options.target_model,
            find_job_id=find_job_id,
            event_bytes=settings.limits.event_bytes,
            keep_going=options.keep_going,
        )
        check_something_is_explained(job, settings)
    except BadInput as error:  # told without the place where the gateway keeps the file
        raise BadInput(error.args[0].replace(f"{path}: ", "").replace(str(path), path.name)) from error
    return job


def _as_asked(settings: Settings, options: Options) -> Settings:
    quality, generation = settings.quality, settings.generation
    if options.explain_poor is not None:
        quality = quality.model_copy(update={"explain_poor": options.explain_poor})
    if options.candidates is not None:
        generation = generation.model_copy(update={"candidates": options.candidates})
    return settings.model_copy(update={"quality": quality, "generation": generation})


@asynccontextmanager
async def _spooled(request: Request) -> AsyncIterator[_Spooled]:
    """The request's body, whose length the guard bounds, in a file that is gone afterwards."""
    if "content-encoding" in request.headers:
        raise Problem(415, "encoded", "the upload must not be compressed: send it as it is")
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-upload-") as folder:
        path, digest = Path(folder) / _FILE, hashlib.sha256()
        try:
            with path.open("wb") as file:
                async for chunk in request.stream():
                    digest.update(chunk)
                    await run_in_threadpool(file.write, chunk)
        except ClientDisconnect as error:
            raise Problem(400, "cut-off", "the upload was cut off; nothing of it was kept") from error
        except OSError as error:
            raise Problem(507, "no-room", f"the upload cannot be kept ({error.strerror}); see to the room in the gateway's temporary folder") from error
        yield _Spooled(path, digest.hexdigest())
