"""The bench: what it reads, and the figures that it makes."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation import nested
from mistudio_explain.evaluation.attacks import EVERY_SOURCE, AttackResult, attack
from mistudio_explain.evaluation.calibration import calibration, picture
from mistudio_explain.evaluation.data import FeatureSet, read_set, read_sets
from mistudio_explain.evaluation.discrimination import auc, rank_correlation
from mistudio_explain.evaluation.fit import Scores, cross_validated, formulas, logistic
from mistudio_explain.evaluation.jobs import job_of, score, score_pairs, unseen
from mistudio_explain.evaluation.latency import Latency, Speed
from mistudio_explain.evaluation.report import Evaluation, bench, json_of, markdown
from mistudio_explain.evaluation.safety_set import Rate
from mistudio_explain.events.explanation import Answer, Verification
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.accuracy import logit_of
from mistudio_explain.validation.contrast import Claim
from mistudio_explain.validation.offline import Scorer
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator
from mistudio_explain.validation.verdict import Ruling

SETS = Path(__file__).parents[3] / "examples" / "features"


def test_every_set_of_the_repository_can_be_read_and_each_feature_has_its_own_key() -> None:
    sets = {one.source: one for one in read_sets(SETS)}
    assert {source: sum(known.explanation is not None for known in one.features) for source, one in sets.items()} == {
        "axbench_sae": 47,
        "eleuther_fewshot": 18,
        "eleuther_gpt2_128k": 237,
        "feature_circuits_pythia70m": 45,
        "mistudio": 82,
        "openai_puzzles_fewshot": 19,
        "saedashboard_gpt2": 0,
    }
    for one in sets.values():
        assert len({known.feature.feature_key for known in one.features}) == len(one.features)
    assert all(known.false_explanations for known in sets["openai_puzzles_fewshot"].features)


def test_a_judges_score_is_the_mean_of_its_tests() -> None:
    judged = [known.judged for known in read_set(SETS / "eleuther_gpt2_128k.jsonl.gz").features]
    assert all(by["score"] == pytest.approx((by["detection"] + by["fuzzing"]) / 2, abs=1e-6) for by in judged)
    assert not any(known.judged for known in read_set(SETS / "mistudio.jsonl.gz").features)


@pytest.mark.parametrize("line", [b"{", b'{"model": "m"}', b'{"model": "m", "feature_id": 1, "explanation": null, "activations": [{"text": 5}]}', b"[]"])
def test_a_bad_line_is_refused_with_its_file(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(gzip.compress(line))
    with pytest.raises(BadInput, match=r"bad\.jsonl\.gz"):
        read_set(path)


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no feature sets"):
        read_sets(tmp_path)


def test_auc_is_the_chance_that_a_matched_pair_scores_higher() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auc(np.array([1.0]), np.array([1.0, 1.0])) == 0.5
    assert auc(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


def test_rank_correlation_sees_order_alone() -> None:
    numbers = list(range(30))
    assert rank_correlation([float(n) for n in numbers], [float(n**3) for n in numbers]).value == pytest.approx(1)
    assert rank_correlation([float(n) for n in numbers], [float(-n) for n in numbers]).value == pytest.approx(-1)


def test_calibration_tells_a_probability_that_means_what_it_says_from_one_that_does_not() -> None:
    random = np.random.default_rng(0)
    said = random.random(2000)
    right = (random.random(2000) < said).astype(np.float64)
    honest, sure = calibration(said, right), calibration(np.where(said > 0.5, 0.99, 0.01) + said / 1000, right)
    assert honest.ece <= honest.floor < sure.ece
    assert sum(each.n for each in honest.bins) == honest.n == 2000
    assert picture({"a": honest, "b": sure}).count("<circle") == 20


def test_regression_finds_the_coefficients_that_made_the_data() -> None:
    random = np.random.default_rng(0)
    x = np.column_stack([np.ones(20_000), random.normal(size=20_000)])
    y = (random.random(20_000) < 1 / (1 + np.exp(-(x @ [-1.0, 2.0])))).astype(np.float64)
    assert logistic(x, y, np.ones(len(y))) == pytest.approx([-1.0, 2.0], abs=0.08)


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator.load(QualitySettings())


@pytest.fixture(scope="module")
def scores(validator: Validator) -> list[Scores]:
    scorer = Scorer.of(validator, Settings())
    read = [read_set(SETS / f"{name}.jsonl.gz") for name in ("eleuther_fewshot", "openai_puzzles_fewshot", "mistudio")]
    prepared = [job_of(FeatureSet(one.source, one.features[:50]), scorer) for one in read]
    return [Scores(job, score_pairs(job, validator)) for job in prepared if job]


def test_shuffled_features_are_others_and_never_have_the_same_explanation(scores: list[Scores]) -> None:
    for one in scores:
        said = [subject.claim.sentence.lower() for subject in one.job.subjects]
        for number, row in enumerate(np.concatenate([one.job.shuffled, one.job.hard], axis=1).tolist()):
            assert all(said[other] != said[number] for other in row)


def test_a_sources_formula_comes_from_the_other_sources_alone(scores: list[Scores]) -> None:
    first, *rest = scores
    given = cross_validated(scores, minilm=False)
    assert given[first.job.source] == formulas(rest, minilm=False) != formulas(scores, minilm=False)


def test_a_single_source_has_no_others_to_take_its_formula_from_and_the_message_says_so(scores: list[Scores]) -> None:
    with pytest.raises(BadInput, match="at least two"):
        cross_validated(scores[:1], minilm=False)


def test_the_bench_finds_real_explanations_better_than_counting_keywords_does(scores: list[Scores], validator: Validator) -> None:
    found = bench(scores, validator)
    assert found.auc["accuracy"].macro.random.value > 0.85
    assert found.auc["accuracy"].macro.random.value > found.auc["keyword overlap"].macro.random.value
    rates = found.rates["mistudio"]
    assert rates.confirmed.value > 0.6 > 0.3 > rates.false_confirmed.value
    assert rates.confirmed.low <= rates.confirmed.value <= rates.confirmed.high


def test_the_bench_comes_to_the_verdicts_of_validation_itself(scores: list[Scores], validator: Validator) -> None:
    for one in scores:
        job = one.job
        for claim, feature in [(number, int(other)) for number in range(10) for other in (number, job.shuffled[number][0])]:
            subject = job.subjects[feature]
            said = job.subjects[claim].known.explanation
            draft = subject.draft.model_copy(update={"answer": Answer(pattern=said)})
            outcome, ruling = validate(draft, job.background, validator), one.pairs[claim, feature].ruling(validator)
            assert ruling.verification is outcome.pattern_verification
            assert outcome.accuracy is None or outcome.accuracy == ruling.accuracy


def test_the_gate_and_negation_count_in_the_bench(scores: list[Scores], validator: Validator) -> None:
    job = next(one.job for one in scores if one.job.source == "mistudio")
    subject = job.subjects[0]

    def ruling(said: str) -> Ruling:
        return score(Claim.of(said, validator.embedding), subject, job, validator).ruling(validator)

    assert ruling("I am sorry, but I cannot help.").verification is Verification.UNVERIFIABLE
    assert ruling(subject.claim.sentence).accuracy.p > 0.75
    assert ruling(f"Anything but {subject.claim.sentence}").accuracy.p < 0.25


def test_attacks_are_told_by_kind_and_source_and_pooled(scores: list[Scores], validator: Validator) -> None:
    job = scores[0].job
    few = replace(job, subjects=job.subjects[:4], shuffled=job.shuffled[:4] % 4)
    results = {(one.kind, one.source): one for one in attack([few], {few.source: validator})}
    edits = [one for (kind, source), one in results.items() if kind.startswith("edit: ") and source == EVERY_SOURCE]
    assert results["edits, all kinds", EVERY_SOURCE].confirmed.n == sum(one.confirmed.n for one in edits) >= 4
    assert results["keywords, all kinds", few.source].confirmed.n == 12
    assert results["no explanation at all", few.source].confirmed.value == 0


def test_forms_and_thresholds_are_chosen_by_other_sources_than_the_one_that_is_measured(validator: Validator, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.of(validator, Settings())
    read = [read_set(SETS / f"{name}.jsonl.gz") for name in ("axbench_sae", "eleuther_gpt2_128k", "mistudio", "openai_puzzles_fewshot")]
    prepared = [job_of(FeatureSet(one.source, one.features[:16]), scorer) for one in read]
    scores = [Scores(job, score_pairs(job, validator)) for job in prepared if job]
    one, *rest = scores
    given = cross_validated(scores, minilm=False)[one.job.source]

    logits = nested.fitted([nested.Source.of(other) for other in rest], nested.IN_FORCE)
    own = [one.pairs[number, number].measured["all"] for number in range(len(one.job.subjects))]
    assert logits(nested.Source.of(one).matched["all"]) == pytest.approx([logit_of(each.values, each.n, given) for each in own], abs=1e-6)

    asked: list[set[str]] = []
    monkeypatch.setattr(nested, "chosen_form", lambda sources: asked.append({each.name for each in sources}) or nested.FORMS[0])
    monkeypatch.setattr(nested, "MACRO_FROM", 1)
    forms = nested.forms_table(scores)
    assert asked == [{other.job.source for other in scores if other is not each} for each in scores]
    assert len(forms) == 2 + len(scores) + 1

    in_force = nested.thresholds_table(scores, validator)[2].split(" | ")[-1]
    confirmed = [one.pairs[n, n].ruling(unseen(validator, given)).verification is Verification.CONFIRMED for n in range(len(own))]
    assert in_force.startswith(f"{np.mean(confirmed):.1%}")


def test_the_best_form_of_few_is_chosen_and_thresholds_keep_wrong_verdicts_rare(scores: list[Scores], validator: Validator) -> None:
    sources = [nested.Source.of(one) for one in scores]
    assert nested.chosen_form(sources).signals[:2] == ("bm25_z", "static_z")
    tables = [nested.Verdicts.of(one, validator) for one in scores]
    confirmed_from, contradicted_below = nested.chosen_thresholds(tables)
    assert 0.3 <= contradicted_below + 0.25 <= confirmed_from <= 0.79
    weight = np.sqrt([len(one.true) for one in tables])
    _, contradicted, false = np.average([one.shares(confirmed_from, contradicted_below) for one in tables], axis=0, weights=weight)
    assert contradicted <= nested.TRUE_CONTRADICTED
    assert false <= nested.FALSE_CONFIRMED


def test_the_report_holds_everything_that_was_measured(scores: list[Scores], validator: Validator) -> None:
    rate = Rate(0.25, 0.1, 0.4, 20)
    attacks = (AttackResult("edits, all kinds", EVERY_SOURCE, rate, rate),)
    speed = Latency(False, 0.1, 0.2, 60, 120, 150, (Speed("mistudio", 50, 2, 3, 2, 3),), {"emoji": 1.0})
    found = Evaluation((bench(scores, validator),), attacks, {}, (speed,))
    text, everything = markdown(found), orjson.loads(json_of(found))
    assert "| mistudio | 50 |" in text
    assert "edits, all kinds" in text
    assert "bad input, emoji" in text
    assert "Safety" not in text
    assert everything["benches"][0]["encoder"] == "static"
    assert everything["attacks"][0]["below"]["value"] == 0.25
