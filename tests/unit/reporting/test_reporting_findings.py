"""What a survey finds beside scores: reasons, second passes, features that say the same, agreement with others, origin."""

import hashlib
import math
import re
from typing import Any

import pytest
from reporting_samples import HOSTILE, explained, failed, job_report, judgement, review, skipped

from mistudio_explain.events.explanation import Accuracy, Answer, Generation, Verification
from mistudio_explain.events.feature import ActivationStatistics
from mistudio_explain.events.job import SecondPass, SentToCloud
from mistudio_explain.reporting.agreement import wilson
from mistudio_explain.reporting.contents import contents
from mistudio_explain.reporting.named import NAMED
from mistudio_explain.reporting.provenance import Fact, compliance, methods
from mistudio_explain.reporting.spread import Quartiles, quartiles
from mistudio_explain.reporting.survey import survey


def because(kind: Any, feature_id: str, reason: str | None) -> Any:
    return kind(feature_id).model_copy(update={"reason": reason})


def fact(facts: tuple[Fact, ...], name: str) -> str:
    (found,) = [each for each in facts if each.name == name]
    return " | ".join(found.sentences)


def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    outcomes = [because(skipped, str(i), f"coherence 0.{i} is below 0.4") for i in range(1, 8)] + [because(failed, "9", None)]
    few, many = sorted(survey(outcomes).detours.reasons, key=lambda reason: reason.n)
    assert (many.reason, many.n, len(many.features)) == ("coherence # is below #", 7, NAMED)
    assert (few.outcome, few.reason, [feature.position for feature in few.features]) == ("failed", "no reason was given", [8])


def test_a_job_of_very_many_reasons_keeps_the_first_and_counts_the_others_together() -> None:
    letters = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    reasons = survey([because(failed, str(i), f"because of {letter}") for i, letter in enumerate(letters)]).detours.reasons
    assert (len(reasons), reasons[-1].reason, sum(reason.n for reason in reasons)) == (51, "other reasons", 200)


def test_second_passes_tell_which_explanation_stands_and_what_kept_others_back() -> None:
    won = explained("1", pass_number=2, earlier=Answer(pattern="the first"))
    lost, kept = explained("2", pass_number=2), explained("3", flags=["escalation_refused:usd", "poor_coherence"])
    second = survey([won, lost, kept]).detours.second
    assert (second.ended, second.replaced, second.refused, [feature.feature_key for feature in second.features]) == (
        2,
        1,
        {"the budget in dollars": 1},
        ["1", "2"],
    )


def test_explanations_of_the_same_words_are_a_family_whatever_their_punctuation() -> None:
    def saying(feature_id: str, pattern: str) -> Any:
        return explained(feature_id, answer=Answer(pattern=pattern))

    found = survey([saying("1", "Names of dogs."), saying("2", "Names of cats."), saying("3", "names of DOGS!"), skipped("4"), saying("5", "Names of dogs")])
    (family,) = found.redundancy.largest
    assert (found.redundancy.families, found.redundancy.in_families, family.n) == (1, 3, 3)
    assert [(feature.position, feature.feature_key) for feature in family.features] == [(1, "1"), (3, "3"), (5, "5")]


def test_explanations_without_a_word_are_no_family() -> None:
    assert survey([explained(str(i), answer=Answer(pattern="…")) for i in range(3)]).redundancy.families == 0


def test_dead_and_dense_features_are_those_whose_source_says_so() -> None:
    def firing(feature_id: str, frequency: float | None) -> Any:
        return explained(feature_id, subject_changes={"statistics": ActivationStatistics(frequency=frequency)})

    density = survey([firing("1", 0.0), firing("2", 0.1), firing("3", 0.11), firing("4", None), explained("5")]).redundancy.density
    assert (density.known, density.dead, density.dense) == (3, 1, 1)
    assert ([f.feature_key for f in density.dead_features], [f.feature_key for f in density.dense_features]) == (["1"], ["3"])


def test_people_are_compared_with_the_accuracy_in_steps() -> None:
    def reviewed(feature_id: str, p: float, verdict: str) -> Any:
        return explained(feature_id, accuracy=Accuracy(p=p, n=3, basis="all"), review=review(feature_key=feature_id, verdict=verdict))

    outcomes = [
        reviewed("1", 0.05, "wrong"),
        reviewed("2", 0.15, "right"),
        reviewed("3", 0.95, "right"),
        reviewed("4", 1.0, "partly"),
        reviewed("5", 0.5, "unclear"),
    ]
    agreement = survey(outcomes).agreement
    assert [(step.n, round(step.accuracy, 3), step.other) for step in agreement.by_people] == [(2, 0.1, 0.5), (2, 0.975, 0.5)]
    assert (agreement.reviewed, agreement.right) == (5, 2)
    assert agreement.by_judge == ()


def test_a_share_of_none_or_all_still_has_an_interval() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # Wilson 1927; as R's binom.confint(0, 10, methods = "wilson")
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_a_judge_is_compared_with_the_accuracy_by_the_mean_of_its_kinds() -> None:
    kinds = judgement().kinds
    both = judgement(kinds=[*kinds, kinds[0].model_copy(update={"kind": "fuzzing", "balanced_accuracy": 0.5})])
    agreement = survey([explained("1", judge=both), explained("2", judge=judgement(calls=0, kinds=[]))]).agreement
    assert (agreement.judged, [step.other for step in agreement.by_judge]) == (1, [pytest.approx((0.8125 + 0.5) / 2)])
    assert agreement.judges == {("big", "gpu1", 1): 1}


def test_the_hash_over_a_templates_prompts_can_be_computed_again_from_the_json_file() -> None:
    shas = ["ab" * 32, "cd" * 32, "ab" * 32]
    (prompt,) = survey([explained(str(i), prompt_sha256=sha) for i, sha in enumerate(shas)]).origin.prompts
    assert (prompt.different, prompt.sha256) == (2, hashlib.sha256("".join(shas).encode()).hexdigest())


def test_quartiles_are_those_of_a_known_list() -> None:
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == Quartiles(5, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert quartiles([0.5]) == Quartiles(1, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert quartiles([]) is None


def test_the_contents_name_every_section_and_every_category_with_an_explanation() -> None:
    sections = contents(job_report(), survey([explained("1"), skipped("2"), explained("3", subject_changes={"category": "temporal"})]))
    assert [section.anchor for section in sections] == [
        "summary", "features", "safety", "insights", "targets", "technical", "unexplained", "methods", "compliance",
    ]  # fmt: skip
    assert [part.anchor for part in sections[1].parts] == ["category-technical", "category-temporal"]


def test_the_appendix_says_which_models_and_prompts_and_what_was_sent_where() -> None:
    cloud = Generation(model="big", model_digest="sha256:12", endpoint="c", provider="openai", reach="cloud", latency_s=1, finish_reason="stop")
    outcomes = [explained("1", generation=cloud, review=review(verdict="right")), explained("2", judge=judgement())]
    sent = SentToCloud(endpoint="c", url="https://api.example/v1", model="big", features=1, calls=2, usd=0.5)
    facts = compliance(job_report(sent_to_cloud=[sent], second_pass=SecondPass(sent=1, refused=3, settled=1)), survey(outcomes))
    assert "big (digest sha256:12) at c, openai: 1 explanation; answered 1 in a cloud" in fact(facts, "Models that explained")
    assert fact(facts, "Models that judged") == "big at gpu1, prompts version 1: 1 explanation"
    assert fact(facts, "Prompts").startswith("fields@1: 2 explanations by 1 different prompt; sha256 of their hashes in the order of the features ")
    assert "4 texts were shown to explainers; 2 were held out" in fact(facts, "What prompts held")
    assert "1 feature to big at c (https://api.example/v1)" in fact(facts, "What left the machine")
    assert fact(facts, "Clouds") == "big at c (https://api.example/v1): 1 feature, 2 calls, at most $0.5000"
    assert "1 explanations were reviewed by people, 1 of them called right" in fact(facts, "People").replace("1 explanation was", "1 explanations were")
    assert fact(facts, "Second pass").startswith("1 feature")


def test_the_methods_name_the_versions_of_everything_that_made_a_number() -> None:
    facts = methods(survey([explained("1", judge=judgement()), explained("2", validator_version=0, pattern_verification=Verification.PARTIAL)]))
    assert fact(facts, "Validator") == "did not run (1) | version 1 (1)"
    assert fact(facts, "Background") == "version 34, 16 features (2)"
    assert fact(facts, "Judge") == "prompts version 1 (1)"
    assert re.fullmatch(r"miStudioExplain \d+\.\d+\.\d+.*", fact(facts, "Product"))


def test_the_same_job_gives_the_same_appendix_in_whatever_order_its_models_answered() -> None:
    def by(model: str) -> Any:
        return explained(model, generation=Generation(model=model, endpoint="e", provider="ollama", latency_s=math.pi, finish_reason="stop"))

    assert [m.model for m in survey([by("b"), by("a")]).origin.models] == [m.model for m in survey([by("a"), by("b")]).origin.models] == ["a", "b"]


def test_hostile_names_are_only_text_in_the_appendix() -> None:
    outcomes = [
        explained(str(i), generation=Generation(model=text, endpoint=text, provider=text, latency_s=1, finish_reason="stop")) for i, text in enumerate(HOSTILE)
    ]
    assert len(survey(outcomes).origin.models) == len(HOSTILE)
    assert len(fact(compliance(job_report(), survey(outcomes)), "Models that explained").split(" | ")) >= len(HOSTILE)
