"""What a replay will take: calls, seconds and US dollars, from what the job that is replayed took."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from mistudio_explain.context.estimate import Estimate, estimate
from mistudio_explain.events.explanation import FeatureOutcome, Generation, OutcomeKind, Tier
from mistudio_explain.events.job import RequestPart

SECONDS_PER_CALL = 5.0
"""A call takes so long where nothing was measured: the specification's bound."""

_FREE = frozenset({"demonstration", "ollama"})


@dataclass(frozen=True, slots=True)
class Forecast:
    """An estimate, and what it rests on."""

    features: int
    skipped: int
    """Features that stay skipped as poor, without a call."""
    cached: int
    """Answers that are likely kept: the same model and prompt explained the feature before."""
    estimate: Estimate
    """Of the calls that are left."""
    measured: int
    """Answers that the seconds of a call rest on; 0: they are a guess."""
    parallel_from: Literal["settings", "measured", "guess"]
    """Where the number of calls at once comes from."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the replay asks for, beside what the replayed job had asked for."""

    asked: RequestPart
    before: RequestPart | None

    def is_answered_by(self, made: Generation, prompt: str | None) -> bool:
        """Whether an answer is what the replay would get again from the cache."""
        model_before, prompt_before = (self.before.route, self.before.prompt_version) if self.before else (None, None)
        same_model = self.asked.route in (model_before, made.model)
        return same_model and self.asked.prompt_version in (prompt_before, prompt) and (self.asked.candidates or 1) == 1

    def skips(self, outcome: FeatureOutcome) -> bool:
        """Whether the feature stays skipped as poor."""
        return outcome.outcome is OutcomeKind.SKIPPED and outcome.subject.tier is Tier.POOR and not self.asked.explain_poor

    def measures(self, made: Generation) -> bool:
        """Whether an answer tells how long one of the replay will take."""
        return self.asked.route in (None, made.model)


def forecast(
    features: Iterable[str], outcomes: Iterable[FeatureOutcome], change: Change, *, wall_s: float | None, slots: int | None, kept_answers: int
) -> Forecast:
    """Estimate a replay of `features` by the `outcomes` of the job that is replayed.

    `wall_s` is how long that job took, `slots` how many calls the settings allow at once where they say so, and
    `kept_answers` how many answers the store keeps.
    """
    wanted = set(features)
    skipped = cached = 0
    seconds: list[float] = []
    costs: list[float] = []
    busy_s = 0.0
    prices: set[bool] = set()
    for outcome in outcomes:
        made = outcome.generation
        if made is not None and not made.cached:
            busy_s += made.latency_s
        if made is not None and change.measures(made):
            seconds.append(made.latency_s)
            free = made.provider in _FREE
            prices.add(free or made.cost_usd is not None)
            costs.append(made.cost_usd or 0.0)
        if outcome.subject.feature_key not in wanted:
            continue
        if change.skips(outcome):
            skipped += 1
        elif made is not None and outcome.outcome is OutcomeKind.EXPLAINED and change.is_answered_by(made, outcome.prompt_template):
            cached += 1
    cached = min(cached, kept_answers)
    calls = len(wanted) - skipped - cached
    parallel, source = _in_parallel(slots, busy_s, wall_s)
    price = fmean(costs) if costs and prices == {True} else None
    taken = fmean(seconds) if seconds else SECONDS_PER_CALL
    return Forecast(len(wanted), skipped, cached, estimate(calls, parallel, taken, price), len(seconds), source)


def _in_parallel(slots: int | None, busy_s: float, wall_s: float | None) -> tuple[int, Literal["settings", "measured", "guess"]]:
    if slots is not None:
        return slots, "settings"
    if busy_s > 0 and wall_s:
        return max(1, math.ceil(busy_s / wall_s - 0.25)), "measured"  # a little over 2 is 2 whose ends do not overlap exactly
    return 1, "guess"
