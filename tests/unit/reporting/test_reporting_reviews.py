"""What people and judges said, in every file of a report."""

import csv
import json
from pathlib import Path
from typing import Any

from reporting_samples import HOSTILE, explained, failed, job_report, judgement, review
from test_reporting_json import written

from mistudio_explain.cli.summary import counts, summary
from mistudio_explain.events.explanation import JudgedKind
from mistudio_explain.reporting.stage import PAGE, TABLE, write_reports


def row(tmp_path: Path, *outcomes: Any) -> dict[str, str]:
    write_reports(job_report(), lambda: outcomes, tmp_path)
    with (tmp_path / TABLE).open(encoding="utf-8-sig", newline="") as file:
        return next(csv.DictReader(file))


def page(tmp_path: Path, *outcomes: Any, **report: Any) -> str:
    write_reports(job_report(**report), lambda: outcomes, tmp_path)
    return (tmp_path / PAGE).read_text(encoding="utf-8")


def test_a_review_stands_in_all_files(tmp_path: Path) -> None:
    outcome = explained("1", review=review())
    content = written(tmp_path, [outcome, failed("2").model_copy(update={"review": review(feature_key="2")})])
    expected = {"verdict": "wrong", "corrected": "Names of dogs.", "who": "ada", "why": "no schema", "timestamp": "1970-01-01T00:00:00.000+00:00"}
    assert content["explanations"][0]["review"] == content["failed"][0]["review"] == expected
    table = row(tmp_path, outcome)
    assert [table[name] for name in ("review", "review_corrected", "review_who", "review_why")] == ["wrong", "Names of dogs.", "ada", "no schema"]
    shown = page(tmp_path, outcome, reviewed=1, agreed=0)
    for part in ("Reviewed by ada: wrong.", "no schema", "Names of dogs.", "1, 0 agree with the verdict"):
        assert part in shown


def test_without_review_or_judge_the_files_say_so(tmp_path: Path) -> None:
    content = written(tmp_path, [explained("1")])
    (only,) = content["explanations"]
    assert (only["review"], only["judge"], only["factual_coherence"], only["logical_coherence"], only["coherence_status"]) == (
        None,
        None,
        None,
        None,
        "not assessed",
    )
    table = row(tmp_path, explained("1"))
    assert (table["review"], table["judge"], table["factual_coherence"], table["logical_coherence"]) == ("", "", "not assessed", "not assessed")
    shown = page(tmp_path, explained("1"))
    assert "Reviewed by" not in shown
    assert "not assessed</dd>" in shown


def test_a_judges_figures_stand_in_all_files_and_no_other_score_changes(tmp_path: Path) -> None:
    outcome = explained("1", judge=judgement())
    only = written(tmp_path, [outcome], job_report(judged=1, judge_calls=5))["explanations"][0]
    assert only["judge"]["kinds"][0]["balanced_accuracy"] == 0.8125
    assert (only["factual_coherence"], only["logical_coherence"], only["coherence_status"]) == (0.75, 1.0, "assessed")
    plain = written(tmp_path, [explained("1")])["explanations"][0]
    of_judges = {"judge", "factual_coherence", "logical_coherence", "coherence_status"}
    assert {key: value for key, value in only.items() if key not in of_judges} == {key: value for key, value in plain.items() if key not in of_judges}
    table = row(tmp_path, outcome)
    assert [table[name] for name in ("judge", "judge_detection", "judge_fuzzing", "judge_unparsed", "factual_coherence")] == ["big", "0.8125", "", "1", "0.75"]
    shown = page(tmp_path, outcome)
    assert "accepts 88% of its own 8, turns down 75% of 9 others; 3 not judged" in " ".join(shown.split())


def test_what_could_not_be_judged_is_no_figure_and_says_why(tmp_path: Path) -> None:
    unread = JudgedKind(kind="detection", basis="seen", n=0, positives=0, negatives=0, unparsed=18)
    outcome = explained(
        "1", judge=judgement(kinds=[unread], factual_coherence=None, logical_coherence=None, unavailable={"detection": "no list", "coherence": "no list"})
    )
    only = written(tmp_path, [outcome])["explanations"][0]
    assert only["judge"]["kinds"][0]["balanced_accuracy"] is None
    assert only["coherence_status"] == "could not be judged: no list"
    table = row(tmp_path, outcome)
    assert (table["judge_detection"], table["judge_unparsed"], table["logical_coherence"]) == ("", "18", "could not be judged: no list")
    assert "could not be judged: no list" in page(tmp_path, outcome)


def test_a_hostile_review_is_text_in_every_file(tmp_path: Path) -> None:
    for text in HOSTILE:
        outcome = explained("1", review=review(who=text, why=text, corrected=text, at_ms=10**18))
        assert written(tmp_path, [outcome])["explanations"][0]["review"]["corrected"] == text
        assert not row(tmp_path, outcome)["review_who"].lstrip().startswith(("=", "+", "-", "@"))
        shown = page(tmp_path, outcome)
        assert "<script>alert(1)" not in shown
        assert "<img src=x" not in shown


def test_the_terminal_counts_reviews_and_shows_them_beside_the_explanation() -> None:
    assert "3 reviewed by people, 2 of them in agreement" in counts(job_report(reviewed=3, agreed=2))
    assert "reviewed" not in counts(job_report())
    assert "4 judged in 20 calls" in counts(job_report(judged=4, judge_calls=20))
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(summary(job_report(), [explained("1", review=review())], []))
    assert "[ada says wrong: Names of dogs.]" in " ".join(console.export_text().split())


def test_job_numbers_of_reviews_and_judges_stand_in_the_head_of_the_json(tmp_path: Path) -> None:
    head = written(
        tmp_path, [explained("1")], job_report(reviewed=3, agreed=2, judged=4, judge_calls=20, judge_tokens_in=7, judge_tokens_out=5, judge_cost_usd=0.5)
    )
    told = head["job_metadata"]
    assert json.dumps(
        [told[name] for name in ("reviewed", "agreed", "judged", "judge_calls", "judge_tokens_in", "judge_tokens_out", "judge_cost_usd")]
    ) == json.dumps([3, 2, 4, 20, 7, 5, 0.5])
