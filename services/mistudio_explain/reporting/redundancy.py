"""Features of a job that say the same, and features that hardly ever or nearly always fire."""

import re
from dataclasses import dataclass, field
from hashlib import blake2b

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.reporting.named import NAMED, Named, named

DENSE_FROM = 0.1
"""Share of tokens from which a feature counts as dense: Rajamanoharan et al. 2024 (JumpReLU SAEs, arXiv:2407.14435) call more than
10% of tokens a very high frequency."""

_FAMILIES = 5
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class SameWords:
    """Features whose patterns consist of the same words in the same order, whatever the case and punctuation."""

    n: int
    features: tuple[Named, ...]
    """The first of them, at most `NAMED`."""


@dataclass(frozen=True, slots=True)
class Density:
    """Features that fire on no token of their corpus, or on too many to mean one thing; those whose source gives no frequency are in neither."""

    known: int
    """Features whose source gives how often they fire."""
    dead: int
    dense: int
    dead_features: tuple[Named, ...]
    dense_features: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Redundancy:
    """What could be left out, or looks broken."""

    families: int
    """Groups of features with the same words."""
    in_families: int
    """Features in these groups."""
    largest: tuple[SameWords, ...]
    """The largest groups, at most 5."""
    density: Density


@dataclass(slots=True)
class RedundancyTally:
    """Gathers `Redundancy` outcome by outcome; of each explanation it keeps a hash of eight bytes and the first feature's key."""

    first: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    again: dict[bytes, list[Named]] = field(default_factory=dict)
    counts: dict[bytes, int] = field(default_factory=dict)
    known: int = 0
    dead: int = 0
    dense: int = 0
    dead_features: list[Named] = field(default_factory=list)
    dense_features: list[Named] = field(default_factory=list)

    def add(self, position: int, outcome: FeatureOutcome) -> None:
        """Take one outcome."""
        statistics = outcome.subject.statistics
        if statistics is not None and statistics.frequency is not None:
            self._fires(named(position, outcome), statistics.frequency)
        pattern = (outcome.answer.pattern if outcome.answer else outcome.explanation) or ""
        said = " ".join(_WORD.findall(pattern.casefold()))
        if outcome.outcome is OutcomeKind.EXPLAINED and said:
            self._said(blake2b(said.encode("utf-8", "replace"), digest_size=8).digest(), pattern, position, outcome.subject.feature_key)

    def _said(self, said: bytes, pattern: str, position: int, feature_key: str) -> None:
        if said not in self.first:
            self.first[said] = (position, feature_key)
            return
        self.counts[said] = self.counts.get(said, 1) + 1
        family = self.again.setdefault(said, [Named(*self.first[said], pattern)])
        _keep(family, Named(position, feature_key, pattern))

    def _fires(self, feature: Named, frequency: float) -> None:
        self.known += 1
        if frequency == 0:
            self.dead += 1
            _keep(self.dead_features, feature)
        elif frequency > DENSE_FROM:
            self.dense += 1
            _keep(self.dense_features, feature)

    def result(self) -> Redundancy:
        """What was gathered."""
        several = sorted(self.counts, key=lambda said: (-self.counts[said], self.first[said]))
        return Redundancy(
            families=len(several),
            in_families=sum(self.counts[said] for said in several),
            largest=tuple(SameWords(self.counts[said], tuple(self.again[said])) for said in several[:_FAMILIES]),
            density=Density(self.known, self.dead, self.dense, tuple(self.dead_features), tuple(self.dense_features)),
        )


def _keep(features: list[Named], feature: Named) -> None:
    if len(features) < NAMED:
        features.append(feature)
