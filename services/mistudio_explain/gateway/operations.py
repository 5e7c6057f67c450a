"""How the pipeline is, as `mistudio-explain lag` and `models` show it."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from mistudio_explain import __version__
from mistudio_explain.gateway.access import Administrator, Reader
from mistudio_explain.gateway.answers import read_answer
from mistudio_explain.gateway.parts import Here
from mistudio_explain.kafka.asyncapi import document

router = APIRouter(tags=["operations"])


class Lag(BaseModel):
    """How far each consumer group is behind, by topic and target model (docs/operations.md, "Lag")."""

    at: str | None = Field(default=None, description="When Kafka was asked, ISO 8601.")
    lag: list[dict[str, Any]] = Field(description="A row for each group and topic.")
    missing_topics: list[str] = Field(default=[], description="Topics that should exist and do not.")
    unavailable_partitions: list[dict[str, Any]] = Field(default=[], description="Partitions without a leader that answers; they are not counted.")
    unavailable: str | None = Field(default=None, description="Why there is no lag to show; absent when there is.")


class Fleet(BaseModel):
    """What the LLM endpoints have (docs/fleet.md)."""

    endpoints: list[dict[str, Any]] = Field(description="Each endpoint: status and why, slots, its models, what they take and how often they were used.")
    uses_unknown_because: str | None = Field(default=None, description="Why it is not known how often models were used; null when it is.")


@router.get("/lag", response_model=Lag)
async def show_lag(request: Request, gateway: Here, _: Administrator) -> Response:
    """Show how far every stage is behind; the figures are at most two seconds old."""
    return read_answer(request, await gateway.lag.now())


@router.get("/models", response_model=Fleet)
async def show_models(request: Request, gateway: Here, _: Administrator) -> Response:
    """Show every LLM endpoint and its models; the figures are at most two seconds old."""
    return read_answer(request, await gateway.fleet.now())


@router.get("/asyncapi.json", response_model=dict[str, Any])
def show_topics(request: Request, gateway: Here, _: Reader) -> Response:
    """Describe the Kafka topics and their events, as AsyncAPI 3.0."""
    return read_answer(request, document(gateway.settings, __version__))
