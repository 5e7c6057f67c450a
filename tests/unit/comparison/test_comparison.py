"""What a comparison says of two jobs, by example."""

from dataclasses import replace

import pytest

from golden_events import OUTCOME, SUBJECT
from mistudio_explain.cli.compare import as_data, shown
from mistudio_explain.cli.show import console
from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.reporting.comparison import Explained, JobOutcomes, compare


def one(key: str, fate: str = "confirmed", accuracy: float | None = 0.5, **changes: object) -> Explained:
    made = Explained(
        feature_key=key, fate=fate, category="technical", model="a", prompt="plain@1", scores={"quality": 0.5, "accuracy": accuracy, "confidence": 0.5},
        text=f"Text of {key}.", latency_s=2.0, cached=False, tokens_in=100, tokens_out=10, cost_usd=0.0, background=(21, 63), validator_version=1,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def job(name: str, *outcomes: Explained, find_job: str = "find_1") -> JobOutcomes:
    return JobOutcomes(name, find_job, {each.feature_key: each for each in outcomes})


def test_the_interval_is_students_t_over_paired_differences() -> None:
    first = job("a", *(one(str(n), accuracy=0.5) for n in range(4)))
    other = job("b", *(one(str(n), accuracy=0.5 + shift) for n, shift in enumerate([0.1, 0.2, 0.3, 0.4])))
    shift = compare(first, other).everything.shifts["accuracy"]
    # differences .1 .2 .3 .4: mean .25, s = .1291, s/sqrt(4) = .06455, t(3, 97.5%) = 3.182
    assert shift.n == 4
    assert (shift.difference, shift.low, shift.high) == pytest.approx((0.25, 0.25 - 0.2054, 0.25 + 0.2054), abs=1e-4)


def test_one_pair_gives_a_difference_without_an_interval_and_a_missing_score_none() -> None:
    shift = compare(job("a", one("1", accuracy=0.25)), job("b", one("1", accuracy=0.5))).everything.shifts["accuracy"]
    assert (shift.n, shift.difference, shift.low) == (1, 0.25, None)
    assert compare(job("a", one("1", accuracy=None)), job("b", one("1"))).everything.shifts["accuracy"].n == 0


def test_only_features_explained_in_both_are_paired_and_the_others_are_counted() -> None:
    first = job("a", one("1"), one("2", "failed"), one("3"))
    other = job("b", one("1", "partial"), one("2"), one("4", "skipped"))
    found = compare(first, other)
    assert found.everything.n == 1
    assert found.fates == {
        ("confirmed", "partial"): 1,
        ("confirmed", "not in the job"): 1,
        ("failed", "confirmed"): 1,
        ("not in the job", "skipped"): 1,
    }
    assert found.everything.changed_verdicts == 1


def test_a_cached_answer_counts_as_cached_and_not_as_time() -> None:
    first = job("a", one("1", latency_s=4.0), one("2", latency_s=2.0))
    other = job("b", one("1", latency_s=None, cached=True), one("2", latency_s=None, cached=True))
    found = compare(first, other).everything
    assert (found.first.latency_s, found.other.latency_s, found.other.cached) == (3.0, None, 2)


def test_a_cost_is_unknown_when_that_of_one_answer_is() -> None:
    found = compare(job("a", one("1", cost_usd=0.5), one("2", cost_usd=0.25)), job("b", one("1", cost_usd=None), one("2"))).everything
    assert (found.first.cost_usd, found.other.cost_usd) == (0.75, None)


def test_jobs_of_different_find_jobs_are_refused() -> None:
    with pytest.raises(BadInput, match=r"find_1, b of find_2.*replay under the same find job"):
        compare(job("a", one("1")), job("b", one("1"), find_job="find_2"))


@pytest.mark.parametrize("background", [(23, 63), (21, 62)])
def test_different_backgrounds_are_refused_saying_which_and_what_to_do(background: tuple[int, int]) -> None:
    first, other = job("a", one("1"), one("2")), job("b", one("1"), one("2", background=background))
    with pytest.raises(BadInput) as refusal:
        compare(first, other)
    said = str(refusal.value)
    assert "1 of the 2 features" in said
    assert "feature 2: version 21 of 63 features in a, version" in said
    assert "replay under the same find job" in said
    found = compare(first, other, same_background=True)
    assert (found.features, found.left_out, found.everything.n) == (1, 1, 1)


def test_a_feature_without_a_score_has_no_background_to_differ() -> None:
    compare(job("a", one("1", accuracy=None, background=None)), job("b", one("1")))


def test_those_that_changed_most_come_first_and_unchanged_ones_not_at_all() -> None:
    first = job("a", one("1"), one("2"), one("3"), one("4"), one("5"))
    other = job("b", one("1", accuracy=0.6), one("2", accuracy=0.9), one("3", "partial"), one("4", text="Else."), one("5"))
    assert [pair.first.feature_key for pair in compare(first, other).most_changed] == ["3", "2", "1", "4"]
    assert [pair.first.feature_key for pair in compare(first, other, limit=2).most_changed] == ["3", "2"]


def test_different_validators_are_noted() -> None:
    found = compare(job("a", one("1")), job("b", one("1", validator_version=2)))
    assert "1 features were scored by different versions of the validator" in found.notes[0]


def test_an_outcome_gives_what_is_compared_of_it() -> None:
    found = Explained.of(OUTCOME)
    assert (found.fate, found.category, found.model, found.prompt) == ("partial", "technical", "llama3.1:8b", "plain@1")
    assert found.scores == {"quality": 0.75, "accuracy": 0.875, "confidence": 0.5}
    assert (found.latency_s, found.cached, found.background) == (None, True, (1 << 21, 63))
    skipped = Explained.of(FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="poor", subject=SUBJECT))
    assert (skipped.fate, skipped.text, skipped.background, skipped.is_explained) == ("skipped", "poor", None, False)


def test_what_is_shown_holds_every_part_and_fits_100_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    long = "This feature responds to the names of months and to words that stand beside dates in letters and contracts. " * 6
    first = job("explain_find_1", *(one(f"blocks.12.hook_resid_pre/{n}", text=long) for n in range(3)))
    other = job("explain_find_1_replay_20261124_120005", *(one(f"blocks.12.hook_resid_pre/{n}", "partial", 0.75, text=long[::-1], model="b") for n in range(3)))
    found = compare(first, other, by="model")
    monkeypatch.setattr("mistudio_explain.cli.show._WIDTH_OF_A_FILE", 100)
    for part in shown(found):
        console().print(part)
    said = capsys.readouterr().out
    assert all(text in said for text in ("Verdicts: 3 of 3 changed", "a → b", "+0.250", "confirmed 0.50", "partial 0.75"))
    assert max(map(len, said.splitlines())) <= 100
    data = as_data(found)
    assert data["all"]["shifts"]["accuracy"]["difference"] == 0.25
    assert data["fates"] == [{"first": "confirmed", "other": "partial", "features": 3}]
