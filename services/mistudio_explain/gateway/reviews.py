"""What people say of explanations."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mistudio_explain.events.explanation import FeatureReviewed
from mistudio_explain.gateway.access import Reader, Writer
from mistudio_explain.gateway.answers import stored_answer, written
from mistudio_explain.gateway.jobs import known_job
from mistudio_explain.gateway.names import Feature, JobId, in_path
from mistudio_explain.gateway.once import Once
from mistudio_explain.gateway.orders import Body
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.store.reviews import is_of_a_feature

router = APIRouter(tags=["reviews"])


class Review(Body):
    """A person's verdict on an explanation."""

    verdict: Literal["right", "partly", "wrong", "unclear"] = Field(description="right, partly, wrong or unclear.")
    corrected: str | None = Field(default=None, max_length=10_000, description="What the explanation should have said.")
    who: str = Field(min_length=1, max_length=200, description="Who says so.", examples=["ada"])
    why: str | None = Field(default=None, max_length=10_000, description="Why.")


class Reviewed(BaseModel):
    """A review that was published."""

    review: FeatureReviewed = Field(description="The review.")
    feature_checked: bool = Field(description="false when the store knows nothing of the job, so that nobody checked that the feature is there.")


class Reviews(BaseModel):
    """The newest review of each feature of a job."""

    reviews: list[FeatureReviewed] = Field(description="The reviews, by feature.")


@router.post("/jobs/{job}/features/{feature}/reviews", response_model=Reviewed, status_code=201)
async def review_feature(gateway: Here, caller: Writer, once: Once, job: JobId, feature: Feature, review: Review) -> Response:
    """Say of an explanation whether it is right; a person's newest word on a feature counts."""

    async def publish() -> Response:
        known = await known_job(gateway, caller, job)
        if known.control is not None and known.control.action in ("delete", "deleted"):
            raise Problem(409, "deleted", f"job {job} {known.closed}: nothing of it is kept, and no review would be")
        event = FeatureReviewed(explain_job_id=job, feature_key=feature, at_ms=gateway.now_ms(), **review.model_dump())
        is_checked = await run_in_threadpool(_is_of_a_feature, gateway, event)
        await gateway.publish([outgoing(event)])
        content = {"review": event.model_dump(mode="json"), "feature_checked": is_checked}
        return written(content, 201, location=f"/api/v1/jobs/{in_path(job)}/features/{in_path(feature)}")

    return await once(review.model_dump_json(), publish)


@router.get("/jobs/{job}/reviews", response_model=Reviews)
async def list_reviews(request: Request, gateway: Here, caller: Reader, job: JobId) -> Response:
    """List the newest review of each feature of a job."""
    await known_job(gateway, caller, job)
    return stored_answer(request, {"reviews": await run_in_threadpool(_reviews, gateway, job)})


def _is_of_a_feature(gateway: Gateway, event: FeatureReviewed) -> bool:
    with gateway.reading() as store:
        return store is not None and is_of_a_feature(store, event)


def _reviews(gateway: Gateway, job: str) -> list[object]:
    with gateway.reading() as store:
        return [] if store is None else [review.model_dump(mode="json") for review in store.reviews(job)]
