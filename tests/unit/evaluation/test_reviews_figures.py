"""The validator against people: agreement, AUC, calibration, and a refit that nobody is made to use."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.cli.from_reviews import evaluate_reviews, figure_lines, refit_lines
from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation.reviews import Refit, Reviewed, measure, of_records, refit

FEW = 200  # resamples: enough for a test
VERIFICATION = {"right": "confirmed", "partly": "partial", "wrong": "contradicted"}


def reviewed(verdict: str, verification: str | None = "confirmed", p: float | None = 0.5, key: str = "1", **signals: float) -> Reviewed:
    return Reviewed(key, verdict, verification, p, None, signals)


def simulated(n: int, *, intercept: float, slope: float, seed: int = 1, share_right: float = 0.5) -> list[Reviewed]:
    """Explanations whose truth follows a logistic of one signal, at `share_right` beforehand; a second signal is noise."""
    rng, found = random.Random(seed), []
    while len(found) < n:
        z, noise = rng.gauss(0, 2), rng.gauss(0, 2)
        is_right = rng.random() < 1 / (1 + math.exp(-(intercept + slope * z)))
        if rng.random() < (share_right if is_right else 1 - share_right):
            p = 1 / (1 + math.exp(-(intercept + slope * z)))
            found.append(reviewed("right" if is_right else "wrong", p=p, key=str(len(found)), bm25=z, static=noise))
    return found


def test_agreement_is_over_those_on_which_both_take_a_side() -> None:
    figures = measure(
        [
            *[reviewed(verdict, VERIFICATION[verdict]) for verdict in VERIFICATION],
            reviewed("wrong", "confirmed"),
            *[reviewed("unclear", "confirmed"), reviewed("right", "unverifiable"), reviewed("right", None)],
        ]
    )
    assert figures.agreement is not None
    assert (figures.agreement.value, figures.agreement.n, figures.n) == (0.75, 4, 7)
    assert figures.table["wrong"] == {"contradicted": 1, "confirmed": 1}
    assert figures.table["right"] == {"confirmed": 1, "unverifiable": 1, "none": 1}
    assert dict(figures.verdicts) == {"right": 3, "partly": 1, "wrong": 2, "unclear": 1}


def test_auc_compares_right_with_wrong_alone_and_ties_count_half() -> None:
    figures = measure([reviewed("right", p=0.9), reviewed("right", p=0.4), reviewed("wrong", p=0.4), reviewed("wrong", p=0.1), reviewed("partly", p=0.99)])
    assert figures.auc is not None
    assert (figures.auc.value, figures.auc.n) == (0.875, 4)


def test_what_cannot_be_had_is_absent_with_its_reason() -> None:
    figures = measure([reviewed("right", None, p=None), reviewed("unclear")])
    assert (figures.agreement, figures.auc, figures.accuracy, figures.confidence) == (None, None, None, None)
    assert set(figures.unavailable) == {"agreement", "auc", "accuracy", "confidence"}
    assert measure([reviewed("right"), reviewed("right")]).unavailable["auc"].startswith("there are 2 right and 0 wrong explanations")
    assert "not to be had: " in "\n".join(figure_lines(figures))


def test_a_calibrated_accuracy_has_a_small_error_and_a_boastful_one_a_great_one() -> None:
    honest = simulated(800, intercept=0.0, slope=0.8)
    boastful = [Reviewed(each.feature_key, each.verdict, each.verification, 0.5 + (each.p or 0) / 2, None, each.signals) for each in honest]
    good, bad = measure(honest, resamples=FEW).accuracy, measure(boastful, resamples=FEW).accuracy
    assert good is not None
    assert bad is not None
    assert good.error.value < 0.06 < 0.2 < bad.error.value
    assert sum(n for _, _, n in good.bins) == 800
    assert bad.error.low is not None
    assert bad.error.low > 0.2


def test_confidence_is_held_against_whether_the_verdict_was_right() -> None:
    sure = [
        Reviewed("1", "right", "confirmed", 0.9, 0.9, {}),
        Reviewed("2", "wrong", "confirmed", 0.9, 0.9, {}),
        Reviewed("3", "wrong", "contradicted", 0.1, 0.8, {}),
    ]
    confidence = measure([*sure, Reviewed("4", "partly", "partial", 0.4, 0.1, {})]).confidence
    assert confidence is not None
    ((said, held, n),) = confidence.bins
    assert (round(said, 4), round(held, 4), n) == (0.8667, 0.6667, 3)


def test_an_interval_holds_the_truth_of_the_simulation_and_narrows_with_more_reviews() -> None:
    few, many = measure(simulated(60, intercept=0.0, slope=0.8), resamples=FEW).auc, measure(simulated(600, intercept=0.0, slope=0.8), resamples=FEW).auc
    truth = measure(simulated(4000, intercept=0.0, slope=0.8, seed=9), resamples=FEW).auc
    assert few is not None
    assert many is not None
    assert truth is not None
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None  # noqa: PT018
    assert few.low < truth.value < few.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_the_same_reviews_give_the_same_figures() -> None:
    assert measure(simulated(80, intercept=0, slope=1), resamples=FEW) == measure(simulated(80, intercept=0, slope=1), resamples=FEW)
    assert refit(simulated(80, intercept=0, slope=1), resamples=FEW) == refit(simulated(80, intercept=0, slope=1), resamples=FEW)


def test_a_refit_finds_the_coefficients_that_the_simulation_had_and_no_use_in_noise() -> None:
    fitted = refit(simulated(3000, intercept=-0.5, slope=0.7), resamples=FEW)
    assert isinstance(fitted, Refit)
    assert fitted.coefficients["bm25"].value == pytest.approx(0.7, abs=0.08)
    noise = fitted.coefficients["static"]
    assert noise.low is not None and noise.high is not None  # noqa: PT018
    assert noise.low < 0 < noise.high
    assert fitted.intercept_as_reviewed == pytest.approx(-0.5, abs=0.1)
    assert fitted.auc_refitted == pytest.approx(fitted.auc_now, abs=0.02)


def test_a_refits_intercept_does_not_hang_on_how_many_right_ones_were_reviewed() -> None:
    even, mostly = (refit(simulated(4000, intercept=0.0, slope=0.7, share_right=share), resamples=FEW) for share in (0.5, 0.8))
    assert isinstance(even, Refit)
    assert isinstance(mostly, Refit)
    assert mostly.right > 3 * mostly.wrong
    assert mostly.intercept.value == pytest.approx(even.intercept.value, abs=0.25)
    assert mostly.intercept_as_reviewed - even.intercept_as_reviewed > 1


def test_a_refits_auc_is_that_of_features_which_its_coefficients_did_not_see() -> None:
    rng = random.Random(4)
    noise = [reviewed(rng.choice(["right", "wrong"]), key=str(at), **{f"signal{each}": rng.gauss(0, 1) for each in range(20)}) for at in range(60)]
    fitted = refit(noise, resamples=10)
    assert isinstance(fitted, Refit)
    assert fitted.auc_refitted < 0.7  # the same coefficients on what they were fitted to: 0.92


def test_reviews_that_are_perfectly_parted_give_finite_coefficients() -> None:
    fitted = refit([reviewed("right" if at % 2 else "wrong", key=str(at), bm25=float(at % 2)) for at in range(40)])
    assert isinstance(fitted, Refit)
    assert abs(fitted.coefficients["bm25"].value) < 20
    assert fitted.auc_refitted == 1.0


def test_too_few_reviews_give_no_refit_and_say_so() -> None:
    said = refit([*[reviewed("right", bm25=1.0)] * 30, *[reviewed("wrong", bm25=0.0)] * 9])
    assert said == "there are 30 right and 9 wrong explanations with signals; a refit needs 10 of each"
    assert list(refit_lines(str(said))) == [f"no refit: {said}"]


def test_lines_of_score_count_as_reviewed_when_someone_added_a_verdict() -> None:
    line = {"feature_key": "7", "accuracy": {"p": 0.4, "signals": {"bm25": 1.0, "odd": "x"}}, "pattern_verification": "partial", "confidence": True}
    (found,) = of_records([line | {"review": "partly"}, line, line | {"review": None}, line | {"review": {"who": "ada"}}])
    assert found == Reviewed("7", "partly", "partial", 0.4, None, {"bm25": 1.0})


def report_file(tmp_path: Path, *verdicts: str | None) -> Path:
    records: list[dict[str, Any]] = [
        {
            "feature_key": str(at),
            "pattern_verification": "confirmed",
            "explanation_confidence": 0.8,
            "accuracy": {"p": 0.7, "signals": {"bm25": 1.0}},
            "review": verdict and {"verdict": verdict, "who": "ada"},
        }
        for at, verdict in enumerate(verdicts)
    ]
    path = tmp_path / "feature_explanations.json"
    path.write_text(json.dumps({"explanations": records}, indent=2))
    return path


def test_a_reports_file_is_measured_and_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = report_file(tmp_path, "right", "wrong", None)
    before = path.read_bytes()
    assert evaluate_reviews(str(path), refitted=True, config=None, profile=None, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["n"], said["agreement"]["value"]) == (2, 0.5)
    assert said["refit"]["unavailable"].startswith("there are 1 right and 1 wrong")
    assert evaluate_reviews(str(path), refitted=False, config=None, profile=None, as_json=False) == 0
    assert "2 reviewed explanations: 1 right, 0 partly, 1 wrong, 0 unclear" in capsys.readouterr().out
    assert path.read_bytes() == before


@pytest.mark.parametrize(("verdict", "message"), [(None, "nothing in it was reviewed"), ("so so", "'so so' is no verdict")])
def test_a_file_without_reviews_or_with_unknown_verdicts_is_refused(tmp_path: Path, verdict: str | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate_reviews(str(report_file(tmp_path, verdict)), refitted=False, config=None, profile=None, as_json=False)


def test_what_is_neither_a_file_nor_a_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="store"):
        evaluate_reviews("nothing", refitted=False, config=None, profile=None, as_json=False)
    (tmp_path / "broken.jsonl").write_text('{"review": "right"}\n{"review"')
    with pytest.raises(BadInput, match="line 2: is no JSON"):
        evaluate_reviews("broken.jsonl", refitted=False, config=None, profile=None, as_json=False)
