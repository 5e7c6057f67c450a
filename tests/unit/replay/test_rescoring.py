"""A draft made again out of an outcome is the draft that the outcome came from."""

from functools import cache

import pytest

from mistudio_explain.context.stage import build
from mistudio_explain.events.explanation import (
    Answer,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    Generation,
    Judgement,
    OutcomeKind,
    Verification,
)
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.winner import rank
from mistudio_explain.generation.stage import Parsed, drafted
from mistudio_explain.replay.rescoring import NotRedrafted, Tally, drafts_of, is_outdated, is_provisional, redrafted
from mistudio_explain.settings import ContextSettings, QualitySettings, Settings
from mistudio_explain.validation.offline import background_of
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator
from unit.context.finding import TEMPLATES, found, policy, real_features

CONTEXT = Settings().context
MADE = Generation(model="m", endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop")
EXAMPLES = ("gpt2-small/feature_analysis.json", "gemma-2-2b/find_gemma-2-2b_results.json")


@cache
def validator() -> Validator:
    return Validator.load(QualitySettings())


def draft(feature: FeatureFound, said: Answer, family: str = "llama3.1:8b") -> ExplanationDrafted:
    request = build(feature, policy(family, explain_poor=True), TEMPLATES, None)
    assert isinstance(request, ExplanationRequested)
    return drafted(request, Parsed(said, ["first_sentence"]), MADE, ["resampled"])


def again(outcome: FeatureOutcome, context: ContextSettings = CONTEXT) -> ExplanationDrafted:
    made = redrafted(outcome, TEMPLATES, context)
    assert isinstance(made, ExplanationDrafted), made
    return made


def under_the_next_revision(given: ExplanationDrafted) -> ExplanationDrafted:
    return given.model_copy(update={"subject": given.subject.retried_as(given.subject.revision + 1)})


@pytest.mark.parametrize("family", ["llama3.1:8b", "demonstration"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_of_real_features_the_whole_draft_comes_back_with_its_prompt_and_its_own_flags(example: str, family: str) -> None:
    for feature in real_features(example):
        given = draft(feature, Answer(label="words of sport", pattern="References to sport, and to numbers.", significance="It matters."), family)
        assert again(validate(given, None, validator())) == under_the_next_revision(given)


def test_a_re_score_against_the_frozen_background_is_no_longer_provisional_and_is_the_outcome_that_counts() -> None:
    there = real_features(EXAMPLES[0])
    given = draft(there[0], Answer(pattern="References to sport."))
    early = background_of("find_real", there[:9]).model_copy(update={"frozen": False})
    before = validate(given, early, validator())
    frozen = background_of("find_real", there)
    after = validate(again(before), frozen, validator())
    assert "provisional" in before.flags
    assert "provisional" not in after.flags
    assert after.background_version == frozen.version
    assert after.generation == before.generation
    assert rank(after, "0") > rank(before, "f")
    fresh = validate(under_the_next_revision(given), frozen, validator())
    assert after == fresh


def test_what_a_judge_said_travels_with_the_draft_that_is_made_again() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    judged = outcome.model_copy(update={"judge": Judgement(model="critic", factual_coherence=0.5, calls=5, prompts_version=1)})
    assert again(judged).judge == judged.judge
    assert again(outcome).judge is None


def test_a_re_score_does_not_say_when_its_feature_was_published_since_nobody_waits_for_it_since_then() -> None:
    given = draft(real_features(EXAMPLES[0])[0], Answer(pattern="References to sport."))
    given = given.model_copy(update={"subject": given.subject.model_copy(update={"published_ms": 7})})
    outcome = validate(given, None, validator())
    assert (outcome.subject.published_ms, again(outcome).subject.published_ms) == (7, None)


def test_re_scoring_twice_gives_the_same_scores() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    once = validate(again(outcome), None, validator())
    twice = validate(again(once), None, validator())
    assert twice.subject.revision == outcome.subject.revision + 2
    assert twice.model_dump(exclude={"subject"}) == outcome.model_dump(exclude={"subject"})


def test_a_prompt_that_cannot_be_rendered_again_keeps_its_name_and_hash_and_has_no_messages() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    for changed, context in ((outcome.model_copy(update={"prompt_template": "gone@9"}), CONTEXT), (outcome, ContextSettings(prompt_tokens=150))):
        prompt = again(changed, context).prompt
        assert prompt.messages == []
        assert f"{prompt.template}@{prompt.version}" == changed.prompt_template
        assert prompt.sha256 == outcome.prompt_sha256


def test_an_answer_that_repeated_its_prompt_is_not_let_through_when_the_prompt_is_gone() -> None:
    given = draft(found(), Answer(pattern="x"))
    instructions = " ".join(given.prompt.messages[0].content.split()[:40])
    leak = validate(given.model_copy(update={"answer": Answer(pattern=instructions)}), None, validator())
    assert leak.pattern_verification is Verification.UNVERIFIABLE
    assert validate(again(leak), None, validator()).pattern_verification is Verification.UNVERIFIABLE
    gone = redrafted(leak.model_copy(update={"prompt_template": "gone@9"}), TEMPLATES, CONTEXT)
    assert isinstance(gone, NotRedrafted)
    assert "repeats its prompt" in gone.why


def test_an_outcome_of_an_earlier_version_loses_the_flags_that_validation_gave_it() -> None:
    outcome = validate(draft(found(coherence_score=0.1), Answer(pattern="Animals that slept.")), None, validator())
    old = outcome.model_copy(update={"draft_flags": None, "flags": ["poor_coherence", "resampled", "no_contrast", "provisional", "keywords_only"]})
    assert again(old).flags == ["poor_coherence", "resampled"]


def test_what_was_not_explained_gives_no_draft() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    failed = FeatureOutcome(outcome=OutcomeKind.FAILED, reason="no answer", subject=outcome.subject)
    assert redrafted(failed, TEMPLATES, CONTEXT) == NotRedrafted("it is failed")
    assert isinstance(redrafted(outcome.model_copy(update={"generation": None}), TEMPLATES, CONTEXT), NotRedrafted)


def test_only_wanted_explained_outcomes_are_sent_again_and_each_is_counted() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    settled = outcome.model_copy(update={"flags": []})
    unsigned = outcome.model_copy(update={"generation": None})
    failed = FeatureOutcome(outcome=OutcomeKind.FAILED, reason="no answer", subject=outcome.subject)
    tally = Tally()
    sent = list(drafts_of([outcome, settled, unsigned, failed], is_provisional, TEMPLATES, CONTEXT, tally))
    assert sent == [again(outcome)]
    assert (tally.sent, tally.current, sum(tally.left.values())) == (1, 1, 1)


def test_an_outcome_is_outdated_when_it_is_provisional_or_of_an_earlier_validator() -> None:
    outcome = validate(draft(found(), Answer(pattern="Animals that slept.")), None, validator())
    settled = outcome.model_copy(update={"flags": []})
    assert is_outdated(outcome, outcome.validator_version)
    assert not is_outdated(settled, outcome.validator_version)
    assert is_outdated(settled, outcome.validator_version + 1)
    assert not is_outdated(outcome.model_copy(update={"outcome": OutcomeKind.SKIPPED}), outcome.validator_version + 1)
