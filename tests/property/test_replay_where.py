"""Conditions: whatever is typed is read or refused with its place; what is read means what it says."""

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import Accuracy, Category, FeatureOutcome, Generation, OutcomeKind, Safety, Subject, Tier, Verification
from mistudio_explain.replay.where import FIELDS, Comparison, Condition, Either, Every, Not, parse

NUMBERS = ("quality", "accuracy", "confidence", "coherence")
KNOWN = {"category": Category, "verdict": Verification, "tier": Tier, "outcome": OutcomeKind}
RELATIONS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
scores = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
words = st.sampled_from(["a", "b/c", "llama3.1:8b", "two words", "and", "it's", ""])


def either_or_none(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def outcomes(draw: st.DrawFn) -> FeatureOutcome:
    accuracy, model, safety = draw(either_or_none(scores)), draw(either_or_none(words)), draw(either_or_none(st.sampled_from(["safe", "concerning"])))
    return FeatureOutcome(
        outcome=draw(st.sampled_from(OutcomeKind)),
        subject=Subject(
            explain_job_id="j", feature_key="1", tier=draw(st.sampled_from(Tier)), category=draw(either_or_none(st.sampled_from(Category))),
            coherence_score=draw(either_or_none(scores)),
        ),
        quality_score=draw(either_or_none(scores)),
        accuracy=None if accuracy is None else Accuracy(p=accuracy, n=1, basis="seen"),
        confidence=draw(either_or_none(scores)),
        pattern_verification=draw(either_or_none(st.sampled_from(Verification))),
        safety=None if safety is None else Safety(assessment=safety),
        business_relevance=draw(either_or_none(st.sampled_from(["high", "low"]))),
        prompt_template=draw(either_or_none(words)),
        flags=draw(st.lists(words, max_size=2)),
        generation=None if model is None else Generation(model=model, endpoint="e", provider="ollama", latency_s=1, finish_reason="stop"),
    )  # fmt: skip


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    field = draw(st.sampled_from(FIELDS))
    if field in NUMBERS:
        return Comparison(field, draw(st.sampled_from(list(RELATIONS))), draw(scores | st.floats(allow_nan=False, allow_infinity=False)))
    known = {"safety": ["safe", "concerning"], "relevance": ["high", "medium", "low"]}.get(field)
    values = st.sampled_from(known or [str(value) for value in KNOWN[field]]) if known or field in KNOWN else words
    return Comparison(field, draw(st.sampled_from(["=", "!="])), draw(values))


conditions: st.SearchStrategy[Condition] = st.recursive(
    comparisons(),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Every, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Either, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def value_of(outcome: FeatureOutcome, field: str) -> Any:
    """The rule book: what a field of the language is, said once more."""
    return {
        "category": outcome.subject.category,
        "verdict": outcome.pattern_verification,
        "tier": outcome.subject.tier,
        "model": outcome.generation and outcome.generation.model,
        "prompt": outcome.prompt_template,
        "safety": outcome.safety and outcome.safety.assessment,
        "outcome": outcome.outcome,
        "relevance": outcome.business_relevance,
        "quality": outcome.quality_score,
        "accuracy": outcome.accuracy and outcome.accuracy.p,
        "confidence": outcome.confidence,
        "coherence": outcome.subject.coherence_score,
    }[field]


def holds(condition: Condition, outcome: FeatureOutcome) -> bool:
    if isinstance(condition, Not):
        return not holds(condition.inner, outcome)
    if isinstance(condition, Every):
        return all(holds(inner, outcome) for inner in condition.inner)
    if isinstance(condition, Either):
        return any(holds(inner, outcome) for inner in condition.inner)
    if condition.field == "flag":
        return (condition.value in outcome.flags) == (condition.relation == "=")
    value = value_of(outcome, condition.field)
    return value is not None and RELATIONS[condition.relation](value, condition.value)


@given(conditions)
def test_a_condition_that_is_written_out_is_read_as_the_same(condition: Condition) -> None:
    assert parse(str(condition)) == condition


@given(conditions, outcomes())
def test_a_condition_means_what_it_says_and_missing_values_match_no_comparison(condition: Condition, outcome: FeatureOutcome) -> None:
    assert parse(str(condition)).matches(outcome) is holds(condition, outcome)


@given(conditions, st.integers(0, 60), st.sampled_from(["", "(", ")", "'", '"', "!", "and", "x", "=", "<", "\n"]))
def test_a_spoilt_condition_is_refused_with_a_place_inside_it(condition: Condition, at: int, spoilt: str) -> None:
    text = str(condition)
    text = text[:at] + spoilt + text[at + 1 :]
    place = refused_at(text)
    assert place is None or 1 <= place <= len(text) + 1


def refused_at(text: str) -> int | None:
    """The character that a refusal names, one beyond the last for the end; None when the condition is read."""
    try:
        parse(text)
    except BadInput as error:
        said = str(error)
    else:
        return None
    return len(text) + 1 if "is wrong at the end: " in said else int(said.split(" is wrong at character ")[1].split(",")[0])


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_on_purpose(text: str) -> None:
    try:
        parse(text)
    except BadInput:
        return


@pytest.mark.parametrize("deep", ["(" * 10_000, "not " * 5_000, "(" * 40 + "not " * 40])
def test_endless_nesting_is_refused(deep: str) -> None:
    with pytest.raises(BadInput, match=r"deep|characters"):
        parse(deep + "quality<1")
