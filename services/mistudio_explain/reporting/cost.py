"""What a job cost on the operator's own machine, and what the same tokens would cost in clouds."""

import math
from dataclasses import dataclass

from mistudio_explain.events.job import CloudPrice, CostAnalysis

_SECONDS_PER_HOUR = 3600
_WATTS_PER_KILOWATT = 1000
_TOKENS_PRICED = 1_000_000


@dataclass(frozen=True, slots=True)
class Used:
    """What a job used: explained features, seconds from the first admission to the last outcome, tokens of its answers."""

    features: int
    seconds: float | None
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What nobody can measure from a job: None where it is not known."""

    watts: float | None
    watts_source: str | None
    electricity_usd_per_kwh: float | None
    hardware_usd: float | None
    features_per_month: float | None
    openai: CloudPrice | None
    anthropic: CloudPrice | None


def analysed(used: Used, known: Circumstances) -> CostAnalysis:
    """The specification's six figures and the months until the hardware has paid for itself; what is not known has a reason instead.

    local_cost is electricity: seconds / 3600 * watts / 1000 * price. Break-even is the hardware's price over what a
    feature saves against OpenAI; at no saving there is none.
    """
    local = _electricity(used, known)
    openai, anthropic = _cloud(used, known.openai, "OpenAI"), _cloud(used, known.anthropic, "Anthropic")
    over_openai, over_anthropic = _saving(openai, local), _saving(anthropic, local)
    even = _break_even(used, over_openai, known)
    figures = {
        "local_cost": local,
        "openai_cost": openai,
        "anthropic_cost": anthropic,
        "savings_vs_openai": over_openai,
        "savings_vs_anthropic": over_anthropic,
        "roi_break_even_features": even,
        "payback_months": _payback(even, known),
    }
    return CostAnalysis(
        **{name: figure for name, figure in figures.items() if not isinstance(figure, str)},
        unavailable={name: figure for name, figure in figures.items() if isinstance(figure, str)},
        seconds=used.seconds,
        watts=known.watts,
        watts_source=known.watts_source,
        electricity_usd_per_kwh=known.electricity_usd_per_kwh,
        hardware_usd=known.hardware_usd,
        features_per_month=known.features_per_month,
        openai=known.openai,
        anthropic=known.anthropic,
    )


def _electricity(used: Used, known: Circumstances) -> float | str:
    if used.seconds is None:
        return "the job's time is not known"
    if known.watts is None:
        return "the power is not known: no GPU tells it, and cost.watts is not set"
    if known.electricity_usd_per_kwh is None:
        return "cost.electricity_usd_per_kwh is not set"
    return used.seconds / _SECONDS_PER_HOUR * known.watts / _WATTS_PER_KILOWATT * known.electricity_usd_per_kwh


def _cloud(used: Used, price: CloudPrice | None, provider: str) -> float | str:
    if price is None:
        return f"the price of {provider}'s model is not known"
    if used.tokens_in + used.tokens_out == 0:
        return "no server counted its tokens"
    return (used.tokens_in * price.input + used.tokens_out * price.output) / _TOKENS_PRICED


def _saving(cloud: float | str, local: float | str) -> float | str:
    if isinstance(cloud, str):
        return cloud
    return local if isinstance(local, str) else cloud - local


def _break_even(used: Used, saving: float | str, known: Circumstances) -> int | str:
    if known.hardware_usd is None:
        return "cost.hardware_usd is not set"
    if isinstance(saving, str):
        return saving
    if used.features == 0:
        return "no feature was explained"
    if saving <= 0:
        return "the cloud would not have cost more: the hardware never pays for itself by this"
    return math.ceil(known.hardware_usd / (saving / used.features))


def _payback(even: int | str, known: Circumstances) -> float | str:
    if isinstance(even, str):
        return even
    return "cost.features_per_month is not set" if known.features_per_month is None else even / known.features_per_month
