"""Orders about jobs: cancel, delete, replay, re-score."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mistudio_explain.errors import BadInput
from mistudio_explain.events.identity import may_name
from mistudio_explain.events.job import JobEvent
from mistudio_explain.gateway.access import Writer
from mistudio_explain.gateway.answers import written
from mistudio_explain.gateway.jobs import known_job
from mistudio_explain.gateway.names import JobId, in_path
from mistudio_explain.gateway.once import Once
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.kafka.orders import cancellation, deletion
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.replay.order import ReplayOrder, check_unused, plan
from mistudio_explain.replay.rescorer import rescore
from mistudio_explain.replay.rescoring import is_outdated
from mistudio_explain.replay.stage import knows_how_many
from mistudio_explain.validation.validator import VALIDATOR_VERSION

router = APIRouter(tags=["orders"])

Why = Annotated[str | None, Field(default=None, max_length=1000, description="Why, for those who read it later.")]


class Body(BaseModel):
    """What an order says."""

    model_config = ConfigDict(extra="forbid")


class Cancel(Body):
    """Stop a job."""

    why: Why


class Ordered(BaseModel):
    """What became of an order."""

    explain_job_id: str = Field(description="The job.")
    action: str = Field(description="cancel or delete.")
    ordered: bool = Field(description="false when it was ordered before, so that nothing was done.")
    revision: int | None = Field(description="The revision that the order speaks of; null when nothing was ordered.")


class Replay(Body):
    """Explain features of a job again, under a new job; each condition narrows the choice."""

    where: str | None = Field(default=None, max_length=2000, description="Only features whose outcome fits.", examples=["category=technical and quality<0.6"])
    features: list[str] = Field(default=[], max_length=10_000, description="Only these, by their keys.")
    failed_only: bool = Field(default=False, description="Only features that failed.")
    since: str | None = Field(
        default=None, max_length=40, description="Only features published from then on: 2026-11-24, 2026-11-24T08:30 (UTC), or 24 hours ago as 24h."
    )
    until: str | None = Field(default=None, max_length=40, description="Only features published before then.")
    route: str | None = Field(default=None, max_length=400, description="Explainer model to use.")
    prompt: str | None = Field(default=None, max_length=200, description="Prompt template to use, as name@version.")
    explain_poor: bool | None = Field(default=None, description="Explain features below the coherence threshold too; absent: as the services are set.")
    candidates: int | None = Field(default=None, ge=1, le=10, description="Answers asked for each feature, the best of which is taken.")
    new_job: str | None = Field(default=None, max_length=200, description="Id of the new job; absent: the find job's, _replay_ and the time.")


class Replayed(BaseModel):
    """A replay that was ordered: the replayer copies the features."""

    explain_job_id: str = Field(description="The new job.")
    of: str = Field(description="The job whose features are explained again.")
    features: int | None = Field(description="How many features it will have; null where only Kafka knows.")


class Rescore(Body):
    """Validate a job's explanations anew."""

    every: bool = Field(default=False, description="Score those too that this version scored against a complete background.")


class Rescored(BaseModel):
    """What was sent to validation again."""

    explain_job_id: str = Field(description="The job.")
    sent: int = Field(description="Explanations that are scored again; no model is asked.")
    current: int = Field(description="Explanations that are up to date.")
    left: dict[str, int] = Field(description="Explanations that stay as they are, by the reason.")


@router.post("/jobs/{job}/cancel", response_model=Ordered, status_code=202)
async def cancel_job(gateway: Here, caller: Writer, once: Once, job: JobId, order: Cancel) -> Response:
    """Stop a job: what waits of it ends as skipped, calls that run are cut off, what is explained stays."""

    async def cancel() -> Response:
        known = await known_job(gateway, caller, job)
        event = cancellation(known, who=caller.name, why=order.why, now_ms=gateway.now_ms())
        return await _given(gateway, job, "cancel", event)

    return await once(order.model_dump_json(), cancel)


@router.delete("/jobs/{job}", response_model=Ordered, status_code=202)
async def delete_job(
    gateway: Here,
    caller: Writer,
    once: Once,
    job: JobId,
    why: Annotated[str | None, Query(max_length=1000, description="Why, for those who read it later.")] = None,
) -> Response:
    """Delete a job: its outcomes, reviews, report and files go; a record without texts says for a month that it was deleted."""

    async def delete() -> Response:
        known = await known_job(gateway, caller, job)
        event = deletion(known, who=caller.name, why=why, now_ms=gateway.now_ms())
        return await _given(gateway, job, "delete", event)

    return await once(b"", delete)


@router.post("/jobs/{job}/replays", response_model=Replayed, status_code=202)
async def replay_job(gateway: Here, caller: Writer, once: Once, job: JobId, order: Replay) -> Response:
    """Explain features of a job again under a new job: with another model or prompt, all of them or some."""

    async def replay() -> Response:
        known = await known_job(gateway, caller, job)
        if known.find_job_id is None:
            raise Problem(409, "not-ready", f"nothing of job {job} was read yet that names its find job; ask again in a moment")
        asked = ReplayOrder(
            from_job=known.find_job_id,
            of=job,
            where=order.where,
            features=",".join(order.features) or None,
            route=order.route,
            prompt=order.prompt,
            since=order.since,
            until=order.until,
            failed_only=order.failed_only,
            explain_poor=order.explain_poor,
            new_job=order.new_job,
            candidates=order.candidates,
        )
        made = await run_in_threadpool(plan, asked, gateway.settings, datetime.fromtimestamp(gateway.now_ms() / 1000, UTC))
        if not may_name(caller.tenant, made.job):
            raise Problem(403, "not-yours", f"{made.job} is no id that tenant {caller.tenant} may give: its jobs begin with explain.{caller.tenant}_")
        check_unused(gateway.jobs.all(), made)
        await gateway.publish([outgoing(made.request), outgoing(made.replay)])
        for event in (made.request, made.replay):
            gateway.jobs.ordered(event)
        assert made.replay.replay is not None
        features = len(made.features) if knows_how_many(made.replay.replay) else None
        content = {"explain_job_id": made.job, "of": job, "features": features}
        return written(content, 202, location=f"/api/v1/jobs/{in_path(made.job)}")

    return await once(order.model_dump_json(), replay)


@router.post("/jobs/{job}/rescore", response_model=Rescored, status_code=202)
async def rescore_job(gateway: Here, caller: Writer, once: Once, job: JobId, order: Rescore) -> Response:
    """Validate a job's explanations anew, under the next revision, without any call of a model."""

    async def again() -> Response:
        known = await known_job(gateway, caller, job)
        if known.control is not None and known.control.action in ("delete", "deleted"):
            raise BadInput(f"job {job} {known.closed}; there is nothing to score again")
        wanted = (lambda _: True) if order.every else partial(is_outdated, validator_version=VALIDATOR_VERSION)
        tally = await rescore(gateway.settings, job, wanted, gateway.publish)
        return written({"explain_job_id": job, "sent": tally.sent, "current": tally.current, "left": dict(tally.left)}, 202)

    return await once(order.model_dump_json(), again)


async def _given(gateway: Gateway, job: str, action: str, event: JobEvent | None) -> Response:
    if event is not None:
        await gateway.publish([outgoing(event)])
        gateway.jobs.ordered(event)
    return written({"explain_job_id": job, "action": action, "ordered": event is not None, "revision": event.revision if event else None}, 202)
