"""Lists of explanations: filtered, searched, in an order, page by page."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mistudio_explain.gateway.access import Caller, Reader
from mistudio_explain.gateway.answers import stored_answer
from mistudio_explain.gateway.names import JobId
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import no_such_job
from mistudio_explain.store.cards import Between, Card, Filters, Order
from mistudio_explain.store.explanations import MOST
from mistudio_explain.store.jobs import JobStore

router = APIRouter(tags=["explanations"])

Share = Annotated[float | None, Field(default=None, ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str | None, Field(default=None, min_length=1, max_length=400)]


class Wanted(BaseModel):
    """Which explanations are wanted: those that meet every filter; of a filter given several times any value will do."""

    model_config = ConfigDict(extra="forbid")

    outcome: list[Literal["explained", "skipped", "failed"]] = Field(default=[], max_length=3, description="How the feature left its job.")
    category: list[Literal["technical", "conversational", "behavioral", "temporal", "other", "none"]] = Field(
        default=[], max_length=6, description="What kind of pattern it is; none: unknown, of features that failed."
    )
    verdict: list[Literal["confirmed", "partial", "contradicted", "unverifiable", "none"]] = Field(
        default=[], max_length=5, description="Whether the texts bear the explanation out; none: of features without an explanation."
    )
    safety: list[Literal["safe", "concerning", "requires_review", "none"]] = Field(
        default=[], max_length=4, description="The safety assessment; none: of features without an explanation."
    )
    flagged: bool | None = Field(default=None, description="Whether a person should look.")
    reviewed: bool | None = Field(default=None, description="Whether a person has.")
    quality_from: Share = Field(description="Least quality score; features without one are left out.")
    quality_to: Share = Field(description="Greatest quality score.")
    accuracy_from: Share = Field(description="Least accuracy; features without one are left out.")
    accuracy_to: Share = Field(description="Greatest accuracy.")
    confidence_from: Share = Field(description="Least confidence; features without one are left out.")
    confidence_to: Share = Field(description="Greatest confidence.")
    target_model: Name = Field(description="The model that the feature belongs to.")
    explainer: Name = Field(description="The model that wrote the explanation.")
    layer: Name = Field(description="Layer, hook or SAE: the feature's source id.")
    text: str = Field(
        default="",
        max_length=500,
        description="Words, each of which must begin a word of the label, explanation, keywords or feature key; case, accents and punctuation do not count.",
    )

    @property
    def filters(self) -> Filters:
        """The same in the store's words."""
        return Filters(
            outcomes=frozenset(self.outcome),
            categories=frozenset(self.category),
            verdicts=frozenset(self.verdict),
            safety=frozenset(self.safety),
            is_flagged=self.flagged,
            is_reviewed=self.reviewed,
            quality=_between(self.quality_from, self.quality_to),
            accuracy=_between(self.accuracy_from, self.accuracy_to),
            confidence=_between(self.confidence_from, self.confidence_to),
            target_model=self.target_model,
            explainer=self.explainer,
            layer=self.layer,
            text=self.text,
        )


class Asked(Wanted):
    """A page of them."""

    order: Order = Field(default=Order.FEATURE, description="What they are ordered by; unknown scores are below all others.")
    descending: bool = Field(default=False, description="The greatest first.")
    cursor: str | None = Field(default=None, max_length=2000, description="The `next` of the page before; everything else must be the same.")
    limit: int = Field(default=50, ge=1, le=MOST, description="Most explanations in the page.")

    @model_validator(mode="after")
    def _cursor_of_ascii(self) -> Self:
        if self.cursor is not None and not self.cursor.isascii():
            raise ValueError("a cursor is what `next` of the page before says")
        return self


class ExplanationPage(BaseModel):
    """A page of explanations."""

    explanations: list[Card] = Field(description="The explanations; of rare ones a page may have fewer than `limit`, even none, and more follow.")
    next: str | None = Field(description="The cursor of the page after this one; null at the end.")


class ExplanationCounts(BaseModel):
    """How many explanations meet the filters."""

    total: int = Field(description="How many do.")
    by: dict[str, dict[str, int]] = Field(description="Of outcome, category, verdict and safety: how many would if that filter alone chose each value instead.")
    is_whole: bool = Field(description="Whether all were counted; else there are at least so many.")


@router.get("/explanations", response_model=ExplanationPage)
def search_explanations(request: Request, gateway: Here, caller: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """List explanations of all jobs."""
    return stored_answer(request, _page(gateway, caller, None, asked))


@router.get("/jobs/{job}/explanations", response_model=ExplanationPage)
def list_explanations(request: Request, gateway: Here, caller: Reader, job: JobId, asked: Annotated[Asked, Query()]) -> Response:
    """List explanations of a job."""
    return stored_answer(request, _page(gateway, caller, job, asked))


@router.get("/jobs/{job}/counts", response_model=ExplanationCounts)
def count_explanations(request: Request, gateway: Here, caller: Reader, job: JobId, wanted: Annotated[Wanted, Query()]) -> Response:
    """Count explanations of a job, in all and by what each filter would leave."""
    with gateway.reading() as store:
        check_job(store, gateway, caller, job)
        counts = None if store is None else asdict(store.counts(caller.tenant, job=job, filters=wanted.filters))
    return stored_answer(request, counts or {"total": 0, "by": {}, "is_whole": True})


def check_job(store: JobStore | None, gateway: Gateway, caller: Caller, job: str) -> None:
    """Raise Problem 404 for a job that is not there or is another tenant's."""
    known = gateway.jobs.get(job)
    if not (known.tenant == caller.tenant if known is not None else store is not None and store.is_of(job, caller.tenant)):
        raise no_such_job(job)


def _page(gateway: Gateway, caller: Caller, job: str | None, asked: Asked) -> Mapping[str, object]:
    with gateway.reading() as store:
        if job is not None:
            check_job(store, gateway, caller, job)
        if store is None:
            return {"explanations": [], "next": None}
        page = store.explanations(
            caller.tenant, job=job, filters=asked.filters, order=asked.order, descending=asked.descending, cursor=asked.cursor, limit=asked.limit
        )
    return {"explanations": page.cards, "next": page.next}


def _between(least: float | None, most: float | None) -> Between | None:
    return None if least is None and most is None else Between(0.0 if least is None else least, 1.0 if most is None else most)
