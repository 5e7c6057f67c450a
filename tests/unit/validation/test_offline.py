"""Offline scoring gives what the stream gives."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.context.background import empty, include
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.events.explanation import Answer, ExplanationRequested, FeatureOutcome, Generation, Verification
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.generation.stage import Parsed, drafted
from mistudio_explain.intake.document import Flawed
from mistudio_explain.intake.pairs import PairLine
from mistudio_explain.intake.stage import read
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.general import general_background
from mistudio_explain.validation.offline import Scorer, background_of, score, score_features
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator
from unit.context.finding import found
from unit.intake.find_job_files import GEMMA, GPT2

HERE = Path("pairs.jsonl")
ORIGIN = {"generation", "prompt_template", "prompt_sha256"}
"""What offline scoring cannot know."""


@cache
def scorer() -> Scorer:
    return Scorer.of(Validator.load(QualitySettings()), Settings())


def features(path: Path) -> list[FeatureFound]:
    return list(read(path, target_model="gemma-2-2b" if path == GEMMA else None).features())


def streamed(feature: FeatureFound, explanation: str, found_before: list[FeatureFound]) -> FeatureOutcome:
    """What context, generation and validation make of a feature when the explainer answers with `explanation`."""
    policy = ContextPolicy.of(Settings().context, QualitySettings(explain_poor=True), Routing())
    request = build(feature, policy, Templates.load(), None)
    assert isinstance(request, ExplanationRequested)
    made = Generation(model="llama3.1:8b", endpoint="gpu0", provider="ollama", latency_s=1.0, finish_reason="stop")
    draft = drafted(request, Parsed(Answer(pattern=explanation), []), made)
    background = include(empty(feature.find_job_id, "default", feature.target_model), found_before)
    return validate(draft, background.model_copy(update={"frozen": True, "seen": b""}), scorer().validator)


@pytest.mark.parametrize("path", [GPT2, GEMMA], ids=["specification", "find"])
def test_a_score_is_what_the_stages_of_the_stream_give_for_the_same_feature_explanation_and_background(path: Path) -> None:
    there = features(path)
    said = [f"references to {' and '.join(feature.pattern_keywords[:2]) or 'numbers'} in sports reports" for feature in there]
    for feature, explanation, outcome in zip(there, said, score_features(there, said, scorer()), strict=True):
        expected = streamed(feature, explanation, there)
        assert outcome.background_version > 0
        assert outcome.model_dump(exclude=ORIGIN) == expected.model_dump(exclude=ORIGIN)


def test_an_outcome_names_no_model_as_the_author_of_a_given_explanation() -> None:
    outcome = score(found(), "animals that slept", None, scorer())
    assert outcome.generation is None
    assert outcome.prompt_template is None
    assert outcome.prompt_sha256 is None


@pytest.mark.parametrize("path", [GPT2, GEMMA], ids=["specification", "find"])
def test_a_pair_reads_its_feature_as_intake_reads_the_same_feature_of_a_file(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    job = document["job_metadata"]["job_id"] if path == GPT2 else document["job_id"]
    pairs = [
        PairLine.of(json.dumps({"job": job, "feature": feature, "explanation": "x", "target_model": "m"}).encode(), 1, HERE).pair()
        for feature in document.get("features") or document["results"]
    ]
    about_the_file = {"target_model", "source_training_job"}
    from_pairs = {pair.feature.feature_key: pair.feature.model_dump(exclude=about_the_file) for pair in pairs}
    assert from_pairs == {feature.feature_key: feature.model_dump(exclude=about_the_file) for feature in features(path)}


def test_a_feature_counts_once_in_the_background_however_many_explanations_it_has() -> None:
    there = features(GPT2)
    said = ["numbers in sports reports"] * len(there)
    once = score_features(there, said, scorer())
    twice = score_features([*there, there[0], there[0]], [*said, "verbs of motion", "the word of"], scorer())
    assert twice[: len(there)] == once
    assert background_of("find_gpt2-small", [*there, *there]) == background_of("find_gpt2-small", there)


def test_jobs_are_no_background_for_each_other() -> None:
    gpt2, gemma = features(GPT2), features(GEMMA)
    said = ["numbers in sports reports"]
    both = score_features([*gpt2, *gemma], said * (len(gpt2) + len(gemma)), scorer())
    assert both == [*score_features(gpt2, said * len(gpt2), scorer()), *score_features(gemma, said * len(gemma), scorer())]


@pytest.mark.parametrize(("features_of_the_job", "contrast"), [(8, False), (9, True)])
def test_a_feature_with_fewer_than_8_others_is_scored_against_the_general_background(features_of_the_job: int, contrast: bool) -> None:
    there = features(GPT2)[:features_of_the_job]
    for outcome in score_features(there, ["numbers in sports reports"] * len(there), scorer()):
        assert ("no_contrast" in outcome.flags) == (not contrast)
        assert outcome.background_features == (features_of_the_job - 1 if contrast else 64)
        assert "provisional" not in outcome.flags


def test_a_poor_feature_is_scored_all_the_same() -> None:
    outcome = score(found(coherence_score=0.01), "animals that slept by a house", None, scorer())
    assert outcome.pattern_verification is Verification.CONFIRMED
    assert "poor_coherence" in outcome.flags


@pytest.mark.parametrize("activations", [[], [{"text": " \n "}]], ids=["no text", "a text without a visible character"])
def test_a_feature_without_a_text_is_unverifiable_and_says_why(activations: list[Any]) -> None:
    line = json.dumps({"job": "j", "feature": {"feature_id": 1, "top_activations": activations}, "explanation": "names of animals"})
    pair = PairLine.of(line.encode(), 1, HERE).pair()
    outcome = score(pair.feature, pair.explanation, None, scorer())
    assert outcome.pattern_verification is Verification.UNVERIFIABLE
    assert outcome.unavailable["accuracy"] == "the feature has no text"
    assert outcome.complexity is None


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        (b"", "$", "an empty line"),
        (b"  ", "$", "an empty line"),
        (b"{", "$", "the file ends in the middle of this value, at line 7, column 2"),
        (b"[]", "$", "a list, where an object with job, feature and explanation was expected"),
        (b'{"job": "\xff"}', "$.job", "bytes that are not UTF-8"),
        (b'{"job": "j", "feature": {"feature_id": 1}, "explanation": "\\ud800"}', "$.explanation", "half of a surrogate pair"),
        (b'{"feature": {"feature_id": 1}, "explanation": "x"}', "$.job", "nothing, where the features' job"),
        (b'{"job": "a|b", "feature": {"feature_id": 1}, "explanation": "x"}', "$.job", "the text 'a|b', where the features' job"),
        (b'{"job": 5, "feature": {"feature_id": 1}, "explanation": "x"}', "$.job", "the number 5"),
        (b'{"job": "j", "explanation": "x"}', "$.feature", "nothing, where an object with a feature was expected"),
        (b'{"job": "j", "feature": [], "explanation": "x"}', "$.feature", "a list, where an object"),
        (b'{"job": "j", "feature": {}, "explanation": "x"}', "$.feature.feature_id", "nothing"),
        (b'{"job": "j", "feature": {"feature_id": 1, "coherence_score": NaN}, "explanation": "x"}', "$.feature.coherence_score", "nan is no JSON number"),
        (b'{"job": "j", "feature": {"feature_id": 1, "coherence_score": 1.5}, "explanation": "x"}', "$.feature.coherence_score", "from 0 to 1"),
        (
            b'{"job": "j", "feature": {"feature_id": 1, "top_activations": [{"text": 5}]}, "explanation": "x"}',
            "$.feature.top_activations[0].text",
            "the number 5",
        ),
        (b'{"job": "j", "feature": {"feature_id": 1}}', "$.explanation", "nothing, where a text was expected"),
        (b'{"job": "j", "feature": {"feature_id": 1}, "explanation": null}', "$.explanation", "nothing, where a text was expected"),
        (b'{"job": "j", "feature": {"feature_id": 1}, "explanation": "x", "target_model": ""}', "$.target_model", "a text of 1 to 400 characters"),
    ],
)
def test_a_line_that_is_no_pair_names_the_place_and_what_was_expected(line: bytes, where: str, what: str) -> None:
    with pytest.raises(Flawed) as flawed:
        PairLine.of(line, 7, HERE).pair()
    problem = flawed.value.problems[0]
    assert problem.path == where
    assert what in problem.what


def test_a_line_beyond_any_use_is_refused_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistudio_explain.intake.pairs.LINE_BYTES", 100)
    with pytest.raises(Flawed, match="more than 100 bytes"):
        PairLine.of(b'{"job": "' + b"a" * 100 + b'"}', 7, HERE)


def test_a_feature_of_the_general_background_is_never_called_a_better_fit() -> None:
    other = general_background()[5]
    outcome = score(found(), f"texts about {' '.join(other.texts[0].split()[:8])}", None, scorer())
    assert "no_contrast" in outcome.flags
    assert not any(flag.startswith("fits_better") for flag in outcome.flags)
    assert "generic" not in outcome.flags
