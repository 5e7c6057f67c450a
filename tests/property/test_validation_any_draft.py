"""Whatever a draft holds, validation gives an outcome that obeys its own rules."""

from dataclasses import replace
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from mistudio_explain.events.explanation import (
    Answer,
    Category,
    Evidence,
    ExplanationDrafted,
    FeatureOutcome,
    Generation,
    Message,
    Prompt,
    Subject,
    Tier,
    Verification,
)
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.settings import QualitySettings
from mistudio_explain.validation.accuracy import estimate, measure
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.contrasts import Contrasts
from mistudio_explain.validation.general import general_background
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator


@cache
def validator() -> Validator:
    return Validator.load(QualitySettings())


plain = st.text(st.characters(codec="utf-8"), max_size=300)
wordy = st.lists(st.sampled_from("piano acid bomb the of metal json run running 日本 42 'of' error sorry".split()), max_size=40).map(" ".join)  # noqa: SIM905
anything = st.one_of(plain, wordy)


@st.composite
def activations(draw: st.DrawFn) -> Activation:
    tokens = draw(st.none() | st.lists(anything, max_size=5))
    values = [draw(st.floats(-10, 10)) for _ in tokens] if tokens is not None else None
    return Activation(text=draw(anything), tokens=tokens, token_activations=values, peak=draw(st.none() | plain))


@st.composite
def drafts(draw: st.DrawFn) -> ExplanationDrafted:
    return ExplanationDrafted(
        subject=Subject(
            explain_job_id="explain_x",
            find_job_id="find_x",
            target_model="m",
            feature_id="1",
            feature_key="1",
            tier=Tier.FAIR,
            category=draw(st.sampled_from(Category)),
            category_source="given",
            keywords=draw(st.lists(anything, max_size=12)),
        ),
        evidence=Evidence(seen=draw(st.lists(activations(), max_size=5)), held_out=draw(st.lists(activations(), max_size=4))),
        answer=Answer(label=draw(st.none() | anything), pattern=draw(anything), significance=draw(st.none() | anything)),
        generation=Generation(model="m", endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop"),
        prompt=Prompt(template="t", version="1", sha256="0", answer="fields", messages=[Message(role="user", content=draw(anything))]),
        complexity="low",
    )


samples = st.lists(st.lists(anything, max_size=5), max_size=12).map(
    lambda features: [BackgroundFeature(feature_key=str(number), texts=texts) for number, texts in enumerate(features)]
)
backgrounds = st.none() | st.builds(
    JobBackground, find_job_id=st.just("find_x"), target_model=st.just("m"), sample=samples, distinct=st.integers(0, 512), frozen=st.booleans()
)


@given(draft=drafts(), background=backgrounds)
@settings(max_examples=150, deadline=None)
def test_any_draft_gives_a_valid_outcome_with_a_reason_for_all_that_is_missing(draft: ExplanationDrafted, background: JobBackground | None) -> None:
    fresh = replace(validator(), contrasts=Contrasts(validator().embedding))
    outcome = validate(draft, background, fresh)
    assert FeatureOutcome.model_validate(outcome.model_dump()) == outcome
    for name in ("accuracy", "clarity", "consistency", "confidence", "quality_score"):
        assert (getattr(outcome, name) is None) == (name in outcome.unavailable), name
    assert (outcome.pattern_verification is Verification.UNVERIFIABLE) == (outcome.accuracy is None)
    if outcome.accuracy is not None and outcome.accuracy.low is not None and outcome.accuracy.high is not None:
        assert outcome.accuracy.low <= outcome.accuracy.p <= outcome.accuracy.high
    assert validate(draft, background, fresh) == outcome


@given(texts=st.lists(wordy.filter(bool), min_size=1, max_size=6), claim=wordy, place=st.integers(0, 63))
@settings(max_examples=50, deadline=None)
def test_a_feature_scores_as_if_it_had_never_been_sampled(texts: list[str], claim: str, place: int) -> None:
    embedding = validator().embedding
    sample = general_background()
    whole, rest = Contrast.of(sample, embedding), Contrast.of([*sample[:place], *sample[place + 1 :]], embedding)
    said, own = Claim.of(claim, embedding), Texts.of([[text] for text in texts], embedding)
    with_own, without = estimate(measure(said, own, whole, place)["all"]), estimate(measure(said, own, rest, None)["all"])
    assert abs(with_own.p - without.p) < 1e-6
