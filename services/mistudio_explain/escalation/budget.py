"""Who of the candidates may be sent again, and where: the worst first, within the caps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from mistudio_explain.escalation.stage import CLOUD_SHARE, Weighed, allowance
from mistudio_explain.llm.pricing import MICRO, most_micro, price_of
from mistudio_explain.llm.reach import reach_of
from mistudio_explain.settings import PriceSettings, Settings
from mistudio_explain.store.ledger import Caps, Ledger


@dataclass(frozen=True, slots=True)
class Stronger:
    """The models of the second pass, by where the settings have them; `unpriced` are in a cloud and nobody knows what they cost."""

    cloud: tuple[tuple[str, PriceSettings], ...]
    local: tuple[str, ...]
    unpriced: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Sort the route's models. One that a cloud endpoint has, or may have, is in the cloud, unless another endpoint names it."""
        endpoints = settings.llm.endpoints
        clouds = [endpoint for endpoint in endpoints if reach_of(endpoint) == "cloud"]
        owned = {model for endpoint in endpoints if endpoint not in clouds for model in endpoint.models or ()}
        route = settings.escalation.route
        away = [name for name in route if name not in owned and any(cloud.models is None or name in cloud.models for cloud in clouds)]
        prices = {name: price_of(name, settings.llm.prices) for name in away}
        return cls(
            cloud=tuple((name, price) for name, price in prices.items() if price is not None),
            local=tuple(name for name in route if name not in away),
            unpriced=tuple(name for name, price in prices.items() if price is None),
        )

    def route(self, *, cloud: bool) -> list[str]:
        """The models to ask, in the settings' order within each kind: clouds first where they may be asked."""
        return [*(name for name, _ in self.cloud if cloud), *self.local]


@dataclass(frozen=True, slots=True)
class Sent:
    """A candidate goes out again; `cloud` says that its cost is reserved."""

    cloud: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate keeps its outcome, and why."""

    why: str


Decision = Sent | Refused


async def decided(job: str, features: int, candidates: Sequence[Weighed], settings: Settings, ledger: Ledger) -> dict[tuple[int, int], Decision]:
    """Decide about all candidates of a job of so many features, by the places of their records.

    The share caps everything that is sent; what is sent to clouds is capped by the ledger too. Decided again after a
    kill, the same candidates come to the same. Raises Unreachable or StoreLost while the ledger is away.
    """
    escalation, stronger = settings.escalation, Stronger.of(settings)
    caps = Caps(features=allowance(features, min(escalation.share, CLOUD_SHARE)), micro=int(escalation.usd * MICRO + 1e-6))
    left = allowance(features, escalation.share)
    decisions: dict[tuple[int, int], Decision] = {}
    for candidate in sorted(candidates, key=lambda each: each.badness):
        why = "share" if left <= 0 else await _away(job, candidate, stronger, caps, settings, ledger)
        if why is None:
            decisions[candidate.place] = Sent(cloud=True)
        elif left > 0 and stronger.local:
            decisions[candidate.place] = Sent(cloud=False)
        else:
            decisions[candidate.place] = Refused(why)
            continue
        left -= 1
    return decisions


async def _away(job: str, candidate: Weighed, stronger: Stronger, caps: Caps, settings: Settings, ledger: Ledger) -> str | None:
    """Why a candidate may not go to a cloud; None when its cost is reserved."""
    if not stronger.cloud:
        return "price_unknown" if stronger.unpriced else "cloud_off"
    most = max(most_micro(price, candidate.prompt_bytes, candidate.turns, settings.llm.max_tokens) for _, price in stronger.cloud)
    return await ledger.reserve(
        job, candidate.feature, revision=candidate.revision + 1, call_micro=most, calls=settings.generation.attempts, caps=caps
    )  # fmt: skip
