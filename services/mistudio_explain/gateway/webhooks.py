"""Webhooks: who is told of jobs' ends, and what became of it."""

import asyncio

from fastapi import APIRouter, Request, Response
from httpx import URL
from pydantic import BaseModel, Field

from mistudio_explain.gateway.access import Administrator
from mistudio_explain.gateway.answers import read_answer
from mistudio_explain.gateway.parts import Here
from mistudio_explain.store.deliveries import Delivery

router = APIRouter(tags=["operations"])

_SHOWN = 100


class ReceiverLine(BaseModel):
    """A receiver of the settings."""

    name: str = Field(description="Its name.")
    host: str = Field(description="Where it is; the rest of its address may be a secret.")
    tenant: str = Field(description="The organisation whose jobs it is told of.")


class DeliveryLine(BaseModel):
    """A message."""

    id: str = Field(description="The message's id; a receiver gets it again with every attempt.")
    receiver: str = Field(description="For whom it is.")
    explain_job_id: str = Field(description="The job that it is about.")
    state: str = Field(description="pending, accepted or given up.")
    made_ms: int = Field(description="When it was made, milliseconds since 1970 UTC.")
    tried_ms: int = Field(description="When it was last tried.")
    attempts: int = Field(description="How often it was tried.")
    said: str | None = Field(description="How the last attempt ended.")


class Webhooks(BaseModel):
    """Receivers and messages."""

    receivers: list[ReceiverLine] = Field(description="The receivers of the settings that are told of the caller's jobs.")
    deliveries: list[DeliveryLine] = Field(description="The newest 100 messages about the caller's jobs, newest first.")


@router.get("/webhooks", response_model=Webhooks)
async def show_webhooks(request: Request, gateway: Here, caller: Administrator) -> Response:
    """Show who is told when a job is at its end, and what became of it."""
    receivers = [each for each in gateway.settings.webhooks.receivers if each.tenant == caller.tenant]
    deliveries = await asyncio.to_thread(gateway.deliveries.newest, caller.tenant, _SHOWN)
    shown = Webhooks(
        receivers=[ReceiverLine(name=each.name, host=URL(each.url).host, tenant=each.tenant) for each in receivers],
        deliveries=[_line(each) for each in deliveries],
    )
    return read_answer(request, shown.model_dump())


def _line(delivery: Delivery) -> DeliveryLine:
    return DeliveryLine(explain_job_id=delivery.job, **{name: getattr(delivery, name) for name in DeliveryLine.model_fields if name != "explain_job_id"})
