"""Business relevance by a policy of weights."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Category, Score, Subject
from mistudio_explain.validation.words import stem, words

Level = Literal["high", "medium", "low"]
Assessment = Literal["safe", "concerning", "requires_review"]
Share = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Weights(_Table):
    """How much each part counts; only their proportions matter."""

    category: float = Field(gt=0)
    keywords: float = Field(ge=0)
    safety: float = Field(ge=0)
    frequency: float = Field(ge=0)


class KeywordRule(_Table):
    """Terms that matter, and how many of them make the part 1."""

    full_at: int = Field(ge=1)
    terms: list[str]


class FrequencyRule(_Table):
    """Scores of an activation frequency inside and outside the useful range."""

    useful_from: Share
    useful_to: Share
    useful: Share
    otherwise: Share


class Levels(_Table):
    """From which score relevance is high or medium."""

    high: Share
    medium: Share


class Policy(_Table):
    """The file's tables."""

    weights: Weights
    category: dict[Category, Share]
    keywords: KeywordRule
    safety: dict[Assessment, Share]
    frequency: FrequencyRule
    levels: Levels


@dataclass(frozen=True, slots=True)
class Relevance:
    """A policy ready for use."""

    policy: Policy
    terms: frozenset[str]

    @classmethod
    def load(cls, path: Path | None = None) -> "Relevance":
        """Read a policy; absent: the one that comes along.

        Raises BadSettings, naming file, table and key, when it cannot be read or lacks something.
        """
        source = path if path is not None else "the built-in policy"
        try:
            text = path.read_text("utf-8") if path is not None else (files(__package__) / "relevance.toml").read_text("utf-8")
            policy = Policy.model_validate(tomllib.loads(text))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadSettings(f"relevance policy {source}: cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise BadSettings(f"relevance policy {source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        missing = [category.value for category in Category if category not in policy.category]
        missing += [assessment for assessment in ("safe", "concerning", "requires_review") if assessment not in policy.safety]
        if missing:
            raise BadSettings(f"relevance policy {source}: no score for {', '.join(missing)}; add it to [category] or [safety]")
        return cls(policy, frozenset(stem(word) for term in policy.keywords.terms for word in words(term)))

    def of(self, subject: Subject, category: Category, assessment: Assessment) -> Score:
        """The weighted mean of the parts that the feature has."""
        policy = self.policy
        parts = {"category": policy.category[category], "safety": policy.safety[assessment]}
        if subject.keywords:
            parts["keywords"] = self._keywords(subject.keywords)
        if subject.statistics is not None and subject.statistics.frequency is not None:
            rule = policy.frequency
            parts["frequency"] = rule.useful if rule.useful_from <= subject.statistics.frequency <= rule.useful_to else rule.otherwise
        weights = policy.weights.model_dump()
        total = sum(weights[name] for name in parts)
        return Score(value=min(1.0, sum(weights[name] * part for name, part in parts.items()) / total), parts=parts)

    def level(self, score: Score) -> Level:
        """The score in a word."""
        if score.value >= self.policy.levels.high:
            return "high"
        return "medium" if score.value >= self.policy.levels.medium else "low"

    def _keywords(self, keywords: Sequence[str]) -> float:
        hits = sum(any(stem(word) in self.terms for word in words(keyword)) for keyword in keywords)
        return min(1.0, hits / self.policy.keywords.full_at)
