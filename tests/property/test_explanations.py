"""Lists of explanations: whatever is asked, page by page it is what filtering and sorting all of them in Python gives."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import (
    Category,
    FeatureOutcome,
    FeatureReviewed,
    OutcomeKind,
    Verification,
)
from mistudio_explain.events.topics import EXPLANATIONS, REVIEWS
from mistudio_explain.store import explanations as module
from mistudio_explain.store.cards import Between
from mistudio_explain.store.explanations import Card, Filters, Order
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import Change
from mistudio_explain.store.tables import place_of

_TENANTS = (f"tenant-{number}" for number in count())
_WORDS = ("python", "import", "imports", "pytest", "neural", "net", "a", "an", "42", "NULL", "or", "Größe", "naïve", "中文", "c3po")
_SCORES = (0.0, 0.2, 0.5, 0.7999999, 0.8, 1.0)
_GENERATED = {"endpoint": "e", "provider": "ollama", "latency_s": 1.0, "finish_reason": "stop"}
_REVIEWS = ("right", "partly", "wrong", "unclear")


@dataclass(frozen=True)
class Known:
    """An outcome and its review, and when the outcome was written."""

    outcome: FeatureOutcome
    review: str | None
    at_ms: int

    @property
    def key(self) -> tuple[str, str]:
        return self.outcome.subject.explain_job_id, self.outcome.subject.feature_key

    @property
    def text(self) -> str:
        answer = self.outcome.answer
        said = self.outcome.explanation if self.outcome.outcome is OutcomeKind.EXPLAINED else self.outcome.reason
        return " ".join(filter(None, (answer and answer.label, said, *self.outcome.subject.keywords, self.outcome.subject.feature_key)))


def known(job: str, tenant: str, feature: str, choose: st.DataObject) -> Known:
    def one(values: Sequence[object]) -> object:
        return choose.draw(st.sampled_from(values))

    score = st.one_of(st.none(), st.sampled_from(_SCORES))
    kind = choose.draw(st.sampled_from(list(OutcomeKind)))
    explained, text = kind is OutcomeKind.EXPLAINED, choose.draw(_texts)
    outcome = FeatureOutcome.model_validate(
        {
            "outcome": kind,
            "reason": None if explained else text,
            "subject": {
                "explain_job_id": job, "tenant": tenant, "feature_key": feature, "feature_id": "1", "find_job_id": "find_1", "target_model": one(("m", "n")),
                "source_id": one((None, "blocks.1", "blocks.2")), "category": one((None, *Category)), "keywords": one(([], ["keyword", "python"])),
            },
            "answer": {"label": one((None, "naïve label")), "pattern": text} if explained else None,
            "explanation": text if explained else None,
            "quality_score": choose.draw(score) if explained else None,
            "accuracy": {"p": p, "n": 3, "basis": "seen"} if explained and (p := choose.draw(score)) is not None else None,
            "confidence": choose.draw(score) if explained else None,
            "pattern_verification": one((None, *Verification)) if explained else None,
            "safety": {"assessment": level} if explained and (level := one((None, "safe", "concerning", "requires_review"))) else None,
            "review_reason": one((None, "look")),
            "generation": {"model": one(("llm-a", "llm-b")), **_GENERATED} if explained else None,
        }
    )  # fmt: skip
    return Known(outcome, choose.draw(st.sampled_from((None, None, *_REVIEWS))), choose.draw(st.integers(1, 4)))


_texts = st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join)


def some(names: Sequence[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(names), max_size=3))


_ranges = st.one_of(st.none(), st.builds(Between, st.sampled_from(_SCORES), st.sampled_from(_SCORES)))
_filters = st.builds(
    Filters,
    outcomes=some([*OutcomeKind]),
    categories=some([*Category, "none"]),
    verdicts=some([*Verification, "none"]),
    safety=some(["safe", "concerning", "requires_review", "none"]),
    is_flagged=st.sampled_from((None, None, True, False)),
    is_reviewed=st.sampled_from((None, None, True, False)),
    quality=_ranges,
    accuracy=_ranges,
    confidence=_ranges,
    target_model=st.sampled_from((None, None, "m")),
    explainer=st.sampled_from((None, None, "llm-a")),
    layer=st.sampled_from((None, None, "blocks.1")),
    text=st.one_of(st.just(""), st.sampled_from(("py", "im py", "imports", "a", "n", "GRÖS", "naive", "文", "4", "keyw tenant", "nothing-has-this")), _texts),
)


def is_wanted(each: Known, filters: Filters) -> bool:
    """What `Filters` says, in other words than the store's."""
    outcome, subject = each.outcome, each.outcome.subject
    told = {
        "outcomes": outcome.outcome.value,
        "categories": subject.category or "none",
        "verdicts": outcome.pattern_verification or "none",
        "safety": outcome.safety.assessment if outcome.safety else "none",
    }
    named = {"target_model": subject.target_model, "explainer": outcome.generation and outcome.generation.model, "layer": subject.source_id}
    words = plain(each.text)
    return (
        all(not getattr(filters, field) or name in getattr(filters, field) for field, name in told.items())
        and filters.is_flagged in (None, outcome.review_reason is not None)
        and filters.is_reviewed in (None, each.review is not None)
        and all(getattr(filters, field) in (None, name) for field, name in named.items())
        and all(within(score(each, order), getattr(filters, order)) for order in ("quality", "accuracy", "confidence"))
        and all(any(word.startswith(term) for word in words) for term in plain(filters.text))
    )


def within(value: float | None, between: Between | None) -> bool:
    return between is None or (value is not None and between.least <= value <= between.most)


def plain(text: str) -> list[str]:
    for letter, bare in {"ö": "o", "Ö": "o", "ß": "ss", "ï": "i"}.items():
        text = text.replace(letter, bare)
    return re.findall(r"[a-z0-9]+|[中文]", text.lower())


def score(each: Known, order: str) -> float | None:
    outcome = each.outcome
    return {"quality": outcome.quality_score, "accuracy": outcome.accuracy and outcome.accuracy.p, "confidence": outcome.confidence}[order]


def listed(all_known: Mapping[tuple[str, str], Known], job: str | None, filters: Filters, order: Order, *, descending: bool) -> list[tuple[str, str]]:
    def key(each: Known) -> tuple[object, ...]:
        job_name, feature = each.key
        if order in ("quality", "accuracy", "confidence"):
            value = score(each, order)
            return (-1.0 if value is None else value), job_name, place_of(feature)
        return (*((each.at_ms,) if order is Order.CHANGED else ()), job_name, place_of(feature))

    wanted = [each for each in all_known.values() if job in (None, each.key[0]) and is_wanted(each, filters)]
    return [each.key for each in sorted(wanted, key=key, reverse=descending)]


def write(store: JobStore, *some_known: Known) -> None:
    changes = [Change(each.outcome, encode(each.outcome), "", each.at_ms) for each in some_known]
    for each in some_known:
        if each.review is not None:
            job, feature = each.key
            review = FeatureReviewed.model_validate({"explain_job_id": job, "feature_key": feature, "verdict": each.review, "who": "ada", "at_ms": 5})
            changes.append(Change(review, encode(review), "", 9, REVIEWS))
    store.apply(changes, {})


@pytest.fixture(params=["few", "many"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what the tests have count as few, or as so many that lists are walked, and not to their end at once."""
    if request.param == "many":
        monkeypatch.setattr(module, "_FEW", 2)
        monkeypatch.setattr(module, "LOOKED_AT", 7)


def drawn(store: JobStore, data: st.DataObject) -> tuple[str, dict[tuple[str, str], Known]]:
    """A tenant of its own, and what it has, written beside another's."""
    tenant, features = next(_TENANTS), st.lists(st.sampled_from(("1", "2", "10", "blocks.1/7", "x")), unique=True, min_size=1)
    some_known = [known(job, tenant, feature, data) for job in (f"{tenant}.a", f"{tenant}.b") for feature in data.draw(features)]
    write(store, *some_known, known(f"{tenant}.other", f"{tenant}-x", "1", data))
    store.index(data.draw(st.integers(0, 8)))
    return tenant, {each.key: each for each in some_known}


_MANY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_MANY
@given(data=st.data())
@pytest.mark.usefixtures("size")
def test_pages_together_are_what_filtering_and_sorting_in_python_gives(store: JobStore, data: st.DataObject) -> None:
    tenant, all_known = drawn(store, data)
    for _ in range(8):
        filters, order, descending = data.draw(_filters), data.draw(st.sampled_from(Order)), data.draw(st.booleans())
        job, limit = data.draw(st.sampled_from((None, f"{tenant}.a", f"{tenant}.other"))), data.draw(st.integers(1, 4))
        cards = list(pages(store, tenant, job=job, filters=filters, order=order, descending=descending, limit=limit))
        assert [(card.job, card.feature_key) for card in cards] == listed(all_known, job, filters, order, descending=descending)
        for card in cards:
            assert card == card_of(all_known[card.job, card.feature_key])


def pages(store: JobStore, tenant: str, **asked: object) -> Iterator[Card]:
    cursor = None
    while True:
        page = store.explanations(tenant, cursor=cursor, **asked)  # type: ignore[arg-type]
        assert len(page.cards) <= asked.get("limit", 50)  # type: ignore[operator]
        yield from page.cards
        if (cursor := page.next) is None:
            return


def card_of(each: Known) -> Card:
    outcome, subject = each.outcome, each.outcome.subject
    return Card(
        job=each.key[0],
        feature_key=each.key[1],
        outcome=outcome.outcome,
        category=subject.category,
        verdict=outcome.pattern_verification,
        safety=outcome.safety and outcome.safety.assessment,
        is_flagged=outcome.review_reason is not None,
        review=each.review,
        quality=outcome.quality_score,
        accuracy=outcome.accuracy and outcome.accuracy.p,
        confidence=outcome.confidence,
        target_model=subject.target_model,
        explainer=outcome.generation and outcome.generation.model,
        layer=subject.source_id,
        label=outcome.answer and outcome.answer.label,
        said=(outcome.explanation if outcome.outcome is OutcomeKind.EXPLAINED else outcome.reason) or None,
        changed_ms=each.at_ms,
    )


@_MANY
@given(data=st.data())
def test_counts_are_those_of_a_count_in_python_also_by_facet(store: JobStore, data: st.DataObject) -> None:
    tenant, all_known = drawn(store, data)
    for _ in range(8):
        filters, job = data.draw(_filters), data.draw(st.sampled_from((None, f"{tenant}.a", f"{tenant}.other")))
        counts = store.counts(tenant, job=job, filters=filters)
        assert counts.is_whole
        assert counts.total == len(listed(all_known, job, filters, Order.FEATURE, descending=False))
        for facet, field, empty, values in (
            ("outcome", "outcomes", frozenset(), [*OutcomeKind]),
            ("category", "categories", frozenset(), [*Category, "none"]),
            ("verdict", "verdicts", frozenset(), [*Verification, "none"]),
            ("safety", "safety", frozenset(), ["safe", "concerning", "requires_review", "none"]),
        ):
            for value in values:
                alone = replace(filters, **{field: frozenset({value})})
                assert counts.by[facet].get(value, 0) == len(listed(all_known, job, alone, Order.FEATURE, descending=False)), (facet, empty)
        for facet, field in (("flagged", "is_flagged"), ("reviewed", "is_reviewed")):
            for value, chosen in (("yes", True), ("no", False)):
                alone = replace(filters, **{field: chosen})
                assert counts.by[facet].get(value, 0) == len(listed(all_known, job, alone, Order.FEATURE, descending=False))


@_MANY
@given(data=st.data())
@pytest.mark.usefixtures("size")
def test_cards_that_stay_come_once_while_others_come_and_go_between_the_pages(store: JobStore, data: st.DataObject) -> None:
    tenant, all_known = drawn(store, data)
    order, descending = data.draw(st.sampled_from(Order)), data.draw(st.booleans())
    staying, cursor, seen = set(all_known), None, []
    for number in count():
        page = store.explanations(tenant, order=order, descending=descending, cursor=cursor, limit=2)
        seen += [(card.job, card.feature_key) for card in page.cards]
        if (cursor := page.next) is None:
            break
        write(store, known(f"{tenant}.a", tenant, f"{number}.new", data))
        if number == 0:
            gone = data.draw(st.sampled_from(sorted(staying)))
            staying.discard(gone)
            store.apply([Change(None, None, "|".join(gone), 1, EXPLANATIONS)], {})
        if number == 20:
            return
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)
