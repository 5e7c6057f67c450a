"""What becomes of a feature: a request with evidence, or a skipped outcome that says why."""

import time
from typing import Any

import pytest

from mistudio_explain.context.evidence import NEAR_DUPLICATES, NO_HELDOUT
from mistudio_explain.context.stage import admission, build
from mistudio_explain.errors import BadInput, EvidenceError
from mistudio_explain.events.explanation import Category, ExplanationRequested, FeatureOutcome, OutcomeKind, Tier
from mistudio_explain.events.feature import Activation, Classification, FeatureFound, JobRequest
from mistudio_explain.events.job import Coordinates
from unit.context.finding import TEMPLATES, TEXTS, found, policy, real_features

PLACE = Coordinates(topic="mistudio.find.features", partition=3, offset=41)


def requested(feature: FeatureFound, **choices: Any) -> ExplanationRequested:
    event = build(feature, policy(**choices), TEMPLATES, PLACE)
    assert isinstance(event, ExplanationRequested)
    return event


def skipped(feature: FeatureFound, **choices: Any) -> FeatureOutcome:
    event = build(feature, policy(**choices), TEMPLATES, PLACE)
    assert isinstance(event, FeatureOutcome)
    assert event.outcome is OutcomeKind.SKIPPED
    return event


def test_a_poor_feature_is_skipped_with_its_coherence_and_the_threshold_in_the_reason() -> None:
    outcome = skipped(found(coherence_score=0.1234))
    assert outcome.reason is not None
    assert "0.1234" in outcome.reason
    assert "0.4" in outcome.reason
    assert outcome.subject.tier is Tier.POOR
    assert outcome.subject.source == PLACE
    assert outcome.flags == ["poor_coherence"]


def test_a_coherence_that_was_computed_skips_nothing_and_gives_no_tier() -> None:
    event = requested(found(coherence_score=0.05, computed=["coherence_score"]))
    assert (event.subject.tier, event.subject.coherence_score, event.subject.computed) == (Tier.UNKNOWN, 0.05, ["coherence_score"])


@pytest.mark.parametrize(
    ("set_to", "asked", "explained"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False), (True, True, True), (False, False, False)],
)
def test_a_request_may_say_otherwise_than_the_settings_about_poor_features(set_to: bool, asked: bool | None, explained: bool) -> None:
    feature = found(coherence_score=0.1, request=JobRequest(explain_job_id="explain_1", explain_poor=asked))
    event = build(feature, policy(explain_poor=set_to), TEMPLATES, None)
    assert isinstance(event, ExplanationRequested) == explained


def test_an_explained_poor_feature_says_so_in_a_flag_and_a_caveat() -> None:
    request = requested(found(coherence_score=0.1), explain_poor=True)
    assert "poor_coherence" in request.flags
    assert any("0.10, poor" in caveat for caveat in request.caveats)


def test_a_feature_without_a_coherence_is_explained_with_a_caveat() -> None:
    request = requested(found(coherence_score=None))
    assert request.subject.tier is Tier.UNKNOWN
    assert any("no coherence score" in caveat for caveat in request.caveats)


def test_a_good_feature_with_enough_texts_has_no_caveats_and_no_flags() -> None:
    request = requested(found())
    assert (request.caveats, request.flags) == ([], [])


@pytest.mark.parametrize("activations", [[], [Activation(text=" \n"), Activation(text="\u200e\x00".replace("\u200e", ""))]])
def test_a_feature_without_a_visible_character_is_an_error_that_names_it(activations: list[Activation]) -> None:
    with pytest.raises(EvidenceError, match="feature 5 of find_1"):
        build(found(top_activations=activations), policy(), TEMPLATES, None)


def test_at_least_three_in_ten_texts_are_held_out_and_none_is_lost() -> None:
    evidence = requested(found(), max_texts=12).evidence
    assert len(evidence.held_out) == 4
    assert sorted(a.text for a in (*evidence.seen, *evidence.held_out)) == sorted(TEXTS[:12])
    assert evidence.trimmed == 0


def test_seven_texts_are_all_shown_and_the_lack_of_held_out_ones_is_said() -> None:
    request = requested(found(*TEXTS[:7]))
    assert len(request.evidence.seen) == 7
    assert request.evidence.held_out == []
    assert NO_HELDOUT in request.flags
    assert any("keep some from the explainer" in caveat for caveat in request.caveats)


def test_texts_beyond_the_most_kept_are_counted_as_trimmed() -> None:
    evidence = requested(found(*TEXTS), max_texts=10).evidence
    assert len(evidence.seen) + len(evidence.held_out) == 10
    assert evidence.trimmed == 10


def test_near_identical_texts_are_removed_counted_and_flagged() -> None:
    request = requested(found(*TEXTS[:12], TEXTS[0].upper(), TEXTS[3] + " Yes"))
    assert request.evidence.trimmed == 2
    assert NEAR_DUPLICATES in request.flags


def test_the_event_id_depends_on_job_feature_and_revision_alone() -> None:
    def id_of(feature_id: str = "5", job: str = "explain_1", revision: int = 0, coherence: float = 0.7) -> str:
        asked = JobRequest(explain_job_id=job, revision=revision)
        return requested(found(feature_id=feature_id, request=asked, coherence_score=coherence)).event_id

    ids = [id_of(), id_of("6"), id_of(job="explain_2"), id_of(revision=1)]
    assert len(set(ids)) == 4
    assert id_of(coherence=0.9) == id_of()


def test_a_requested_route_is_the_only_one() -> None:
    assert requested(found()).route == []
    assert requested(found(request=JobRequest(explain_job_id="explain_1", route="mistral:7b"))).route == ["mistral:7b"]


def test_the_request_s_template_wins_over_the_settings_and_these_over_the_choice() -> None:
    asked = JobRequest(explain_job_id="explain_1", prompt_version="technical@2")
    assert requested(found()).prompt.template == "general"
    assert requested(found(), template="demonstration@1").prompt.template == "demonstration"
    assert requested(found(request=asked), template="demonstration@1").prompt.template == "technical"


def test_a_template_that_does_not_exist_is_an_error_that_names_those_that_do() -> None:
    asked = JobRequest(explain_job_id="explain_1", prompt_version="poem@7")
    with pytest.raises(BadInput, match=r"'poem@7'.*general@1"):
        build(found(request=asked), policy(), TEMPLATES, None)


def test_a_category_that_is_not_ours_becomes_other_and_is_flagged() -> None:
    request = requested(found(pattern_category="Culinary"))
    assert (request.subject.category, request.subject.category_source) == (Category.OTHER, "given")
    assert "unknown_category" in request.flags


def test_find_s_complexity_score_decides_where_there_is_one() -> None:
    def complexity(score: float) -> str:
        return requested(found(classification=Classification(complexity_score=score))).complexity

    assert [complexity(score) for score in (0.0, 0.5, 1.0)] == ["low", "medium", "high"]


def test_an_admission_carries_the_request_s_job_and_the_place_of_the_bytes() -> None:
    entered = admission(found(feature_id="5", source_id="layer 3", request=JobRequest(explain_job_id="explain_9", revision=2, tenant="acme")), PLACE)
    assert (entered.explain_job_id, entered.feature_key, entered.revision, entered.tenant, entered.source) == ("explain_9", "layer 3/5", 2, "acme", PLACE)


def test_without_a_request_block_the_job_is_the_find_job_s_default_one() -> None:
    assert requested(found()).subject.explain_job_id == "explain_1"
    assert admission(found(), None).explain_job_id == "explain_1"


@pytest.mark.parametrize("example", ["gpt2-small/feature_analysis.json", "gemma-2-2b/find_gemma-2-2b_results.json"])
def test_real_features_give_prompts_within_the_budget_that_hold_texts_out(example: str) -> None:
    for feature in real_features(example):
        request = requested(feature, explain_poor=True)
        assert sum(len(message.content) for message in request.prompt.messages) <= 1500 * 3.5
        kept = len(request.evidence.seen) + len(request.evidence.held_out)
        assert len(request.evidence.held_out) >= 0.3 * kept
        assert kept + request.evidence.trimmed == len(feature.top_activations)


def test_a_hundred_texts_of_ten_thousand_characters_do_not_take_long() -> None:
    words = [f"word{number}" for number in range(1500)]
    texts = [" ".join(words[(place * 37 + step * (place + 1)) % 1500] for step in range(1300)) for place in range(100)]
    started = time.process_time()
    requested(found(*texts))
    assert time.process_time() - started < 0.5  # measured 0.012 s


@pytest.mark.parametrize(("characters", "cut"), [(4_000, False), (4_001, True)])
def test_a_text_that_was_cut_is_flagged(characters: int, cut: bool) -> None:
    long = ("word " * 1000)[:characters]
    made = build(found(long, *TEXTS[:3]), policy(), TEMPLATES, None)
    assert isinstance(made, ExplanationRequested)
    assert ("text_cut" in made.flags) == cut
