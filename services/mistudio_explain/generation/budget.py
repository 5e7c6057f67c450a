"""Sends calls to clouds within what the ledger has reserved for them; no call goes there otherwise."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.explanation import Subject
from mistudio_explain.llm.asking import Sleep
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import AccessDenied, CallFailure, EndpointUnreachable, ModelUnknown, RateLimited
from mistudio_explain.llm.pricing import MICRO, cost_of, most_of, price_of
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.observability.metrics import COST
from mistudio_explain.settings import PriceSettings
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.ledger import Destination, Ledger

log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
_FREE_OF_CHARGE = (RateLimited, EndpointUnreachable, AccessDenied, ModelUnknown)
"""Failures before any token was read: no provider charges for them."""


class OverBudget(CallFailure):
    """What is reserved for the feature does not cover another call."""

    kind = "over budget"
    repeatable = False


@dataclass(frozen=True, slots=True)
class Budget:
    """The ledger's word on every call to a cloud; calls to other endpoints it lets pass."""

    ledger: Ledger
    endpoints: Endpoints
    prices: Sequence[PriceSettings]
    sleep: Sleep = asyncio.sleep

    async def complete(self, subject: Subject, choice: Choice, call: Call) -> Completion:
        """Send a call, begun in the ledger before and finished after it; one that ends in between counts as its maximum.

        While the ledger is away the call waits. Raises OverBudget, and the CallFailures of providers.
        """
        if not choice.endpoint.is_cloud:
            return await self.endpoints.complete(choice, call)
        price = price_of(choice.model.name, self.prices)
        if price is None:
            raise OverBudget(f"the price of {choice.model.name} is not known; add it under [[llm.prices]]")
        to, most = Destination(choice.endpoint.name, choice.endpoint.url, choice.model.name), most_of(call, price)
        if not await self._begun(subject, to, most):
            raise OverBudget(
                f"what the ledger reserved for the feature does not cover another call of {choice.model.name}, which can cost ${most / MICRO:.6f} (price of "
                f"{price.as_of}); a feature gets generation.attempts calls, all features together escalation.usd"
            )
        try:
            completion = await self.endpoints.complete(choice, call)
        except _FREE_OF_CHARGE:
            await self._finished(subject, to, 0)
            raise
        micro = cost_of(call, completion, price)
        COST.labels(model_name=choice.model.name).inc(micro / MICRO)
        await self._finished(subject, to, micro)
        return completion

    def cost_usd(self, choice: Choice, call: Call, completion: Completion) -> float | None:
        """What a finished call was charged, US dollars; None where nobody charges for calls, which is everywhere but in clouds."""
        price = price_of(choice.model.name, self.prices) if choice.endpoint.is_cloud else None
        return None if price is None else cost_of(call, completion, price) / MICRO

    async def settle(self, subject: Subject) -> None:
        """Let a feature that has its answer count as what it cost. When the ledger is away it goes on counting as its maximum."""
        try:
            await self.ledger.settle(subject.explain_job_id, subject.feature_key)
        except (Unreachable, StoreLost) as error:
            log.warning("ledger.not_settled", feature=subject.feature_key, job=subject.explain_job_id, why=str(error))

    async def _begun(self, subject: Subject, to: Destination, most: int) -> bool:
        while True:
            try:
                return await self.ledger.begin(subject.explain_job_id, subject.feature_key, to, most_micro=most)
            except (Unreachable, StoreLost) as error:
                log.warning("ledger.away", why=str(error), again_in_s=_AGAIN_S)
                await self.sleep(_AGAIN_S)

    async def _finished(self, subject: Subject, to: Destination, micro: int) -> None:
        try:
            await self.ledger.finish(subject.explain_job_id, subject.feature_key, to, micro=micro)
        except (Unreachable, StoreLost) as error:
            log.warning("ledger.not_finished", feature=subject.feature_key, job=subject.explain_job_id, why=str(error))
