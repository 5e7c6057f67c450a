"""Features as lists in reports name them."""

from dataclasses import dataclass

from mistudio_explain.events.explanation import FeatureOutcome

NAMED = 5
"""Features that a list names at most, beside their number."""


@dataclass(frozen=True, slots=True)
class Named:
    """A feature that a list names; `position` counts all outcomes from 1 in the order of the stream, and `f<position>` is its anchor."""

    position: int
    feature_key: str
    name: str


def named(position: int, outcome: FeatureOutcome) -> Named:
    """Name an outcome's feature by what is said of it."""
    return Named(position, outcome.subject.feature_key, name_of(outcome))


def name_of(outcome: FeatureOutcome) -> str:
    """The label, else the pattern, else the explanation, else the feature's key."""
    answer = outcome.answer
    return ((answer.label or answer.pattern) if answer else outcome.explanation) or outcome.subject.feature_key
