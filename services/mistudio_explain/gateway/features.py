"""One feature: its explanation, what that rests on, and what other jobs made of it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mistudio_explain.events.explanation import Evidence, FeatureOutcome, OutcomeKind
from mistudio_explain.gateway.access import Reader
from mistudio_explain.gateway.answers import stored_answer
from mistudio_explain.gateway.explanations import check_job
from mistudio_explain.gateway.names import Feature, JobId
from mistudio_explain.gateway.parts import Here
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.reporting.records import explanation_record, unexplained_record
from mistudio_explain.store.cards import Card

router = APIRouter(tags=["explanations"])


class FeatureView(BaseModel):
    """A feature, as a job's feature_explanations.json has it, with its outcome and its texts whole."""

    model_config = ConfigDict(extra="allow")

    explain_job_id: str = Field(description="The job.")
    feature_key: str = Field(description="The feature in its job.")
    find_job_id: str | None = Field(description="The find job.")
    target_model: str | None = Field(description="The model that the feature belongs to.")
    outcome: OutcomeKind = Field(description="explained, skipped or failed; the further fields are those of feature_explanations.json.")
    reason: str | None = Field(description="Why it was skipped or failed.")
    evidence: Evidence | None = Field(
        description="The texts: those that the explainer saw and those held out, with tokens and activations where the input gave them."
    )


class History(BaseModel):
    """What the jobs that explain the same find job made of a feature."""

    jobs: list[Card] = Field(description="The feature in each job, newest first; the asked job's own is among them.")


@router.get("/jobs/{job}/features/{feature}", response_model=FeatureView)
def show_feature(request: Request, gateway: Here, caller: Reader, job: JobId, feature: Feature) -> Response:
    """Show a feature: explanation, scores, verdict, and the texts that all of that rests on."""
    with gateway.reading() as store:
        check_job(store, gateway, caller, job)
        outcome = None if store is None else store.feature(caller.tenant, job, feature)
    if outcome is None:
        raise Problem(404, "no-such-feature", f"job {job} has no outcome of a feature {feature!r}")
    return stored_answer(request, _view(outcome))


@router.get("/jobs/{job}/features/{feature}/history", response_model=History)
def show_history(request: Request, gateway: Here, caller: Reader, job: JobId, feature: Feature) -> Response:
    """Show what each job on the same find job made of a feature."""
    with gateway.reading() as store:
        check_job(store, gateway, caller, job)
        state = None if store is None else store.state(job)
        cards = [] if store is None or state is None else store.history(caller.tenant, feature, find_job=state.find_job_id)
    return stored_answer(request, {"jobs": cards})


def _view(outcome: FeatureOutcome) -> Mapping[str, Any]:
    record = explanation_record(outcome) if outcome.outcome is OutcomeKind.EXPLAINED else unexplained_record(outcome)
    subject = outcome.subject
    return record | {
        "explain_job_id": subject.explain_job_id,
        "find_job_id": subject.find_job_id,
        "target_model": subject.target_model,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "evidence": None if outcome.evidence is None else outcome.evidence.model_dump(mode="json"),
    }
