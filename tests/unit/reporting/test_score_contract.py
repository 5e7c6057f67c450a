"""miStudioScore's own way through a job's folder: list the jobs, load one, extract its records, hand them to a scorer.

The steps are those of Onegaishimas/miStudio, services/miStudioScore at commit 3a2b156a96e7ae46cc7dfadf8c952fd12fcab4c5: src/main.py (discover_source_jobs,
_load_source_data_robust, _extract_features_from_source, _save_csv_results), src/scorers/relevance_scorer.py and ablation_scorer.py.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.events.explanation import Evidence, FeatureOutcome
from mistudio_explain.events.feature import Activation, ActivationStatistics
from mistudio_explain.reporting.stage import report_directory, write_reports
from unit.reporting.reporting_samples import explained, failed, hostile, job_report, skipped


def written(data: Path, outcomes: list[FeatureOutcome], job: str = "explain_1") -> Path:
    folder = report_directory(data / "results" / "explain", job)
    write_reports(job_report(explain_job_id=job), lambda: outcomes, folder)
    return folder


def jobs(data: Path) -> list[dict[str, Any]]:
    """What Score lists: each folder under results/explain whose explanation_results.json has explanations."""
    found = []
    for folder in (data / "results" / "explain").iterdir():
        file = folder / "explanation_results.json"
        if folder.is_dir() and file.exists():
            content = json.loads(file.read_text())
            if content.get("explanations", []):
                found.append({"job_id": folder.name, "timestamp": content.get("timestamp", "unknown"), "features_count": len(content["explanations"])})
    return sorted(found, key=lambda each: each["job_id"], reverse=True)


def records(data: Path, job: str) -> list[dict[str, Any]]:
    """What Score hands to its scorers: the job's `explanations`, as far as they are objects with anything in them."""
    content = json.loads((data / "results" / "explain" / job / "explanation_results.json").read_text())
    assert isinstance(content["explanations"], list)
    return [record for record in content["explanations"] if isinstance(record, dict) and record]


def relevance(features: list[dict[str, Any]], positive: set[str], negative: set[str]) -> list[float]:
    """Its relevance scorer: keywords found in the joined examples, for and against, by how many there are."""
    scores = []
    for feature in features:
        text = " ".join(feature.get("top_activating_examples", [])).lower()
        found = sum(word in text for word in positive) - sum(word in text for word in negative)
        scores.append(round(found / len(positive | negative), 4))
    return scores


def utility(features: list[dict[str, Any]], threshold: float) -> list[float]:
    """Its ablation scorer, `importance_ranking`: 0.7 coherence + 0.3 activation (full from 10), less the threshold, times 1.2; 0 unless both are numbers."""
    scores = []
    for feature in features:
        coherence, activation = feature.get("coherence_score", 0.0), feature.get("max_activation", 0.0)
        numbers = isinstance(coherence, int | float) and isinstance(activation, int | float)
        scores.append(min(1.0, 1.2 * max(0.0, coherence * 0.7 + min(activation / 10, 1.0) * 0.3 - threshold)) if numbers else 0.0)
    return scores


def with_numbers(feature_id: str, coherence: float | None, greatest: float | None) -> FeatureOutcome:
    texts = Evidence(seen=[Activation(text=f"User authentication number {feature_id}")], held_out=[Activation(text="colour scheme")])
    statistics = ActivationStatistics(max=greatest) if greatest is not None else None
    return explained(feature_id, subject_changes={"coherence_score": coherence, "statistics": statistics}, evidence=texts)


def test_score_finds_the_job_by_its_folder_with_as_many_features_as_were_explained(tmp_path: Path) -> None:
    written(tmp_path, [explained("1"), explained("2"), skipped("3"), failed("4")])
    written(tmp_path, [skipped("3")], job="explain_nothing")
    assert jobs(tmp_path) == [{"job_id": "explain_1", "timestamp": "2026-07-26T15:30:45.000+00:00", "features_count": 2}]


def test_score_gets_each_explained_feature_as_a_record_that_its_scorers_take(tmp_path: Path) -> None:
    written(tmp_path, [with_numbers("1", 0.9, 20.0), with_numbers("2", 0.1, 5.0), skipped("3")])
    features = records(tmp_path, jobs(tmp_path)[0]["job_id"])
    assert [feature["feature_id"] for feature in features] == [1, 2]
    assert relevance(features, {"authentication", "number 1"}, {"colour", "ocean"}) == [0.25, 0.0]
    assert utility(features, threshold=0.3) == pytest.approx([1.2 * (0.63 + 0.3 - 0.3), 0.0])


def test_a_number_that_nobody_knows_gives_no_utility_instead_of_an_invented_one(tmp_path: Path) -> None:
    written(tmp_path, [with_numbers("1", None, 20.0), with_numbers("2", 0.9, None)])
    assert utility(records(tmp_path, "explain_1"), threshold=0.0) == [0.0, 0.0]


@pytest.mark.parametrize(("feature_id", "expected"), [("348", 348), ("007", 7), ("colors", None), ("1" * 40, None)])
def test_the_dictionary_s_element_that_an_ablation_turns_off_is_a_number_or_null(tmp_path: Path, feature_id: str, expected: int | None) -> None:
    written(tmp_path, [explained(feature_id)])
    assert [feature["feature_index"] for feature in records(tmp_path, "explain_1")] == [expected]


def test_hostile_texts_go_through_score_and_its_table_as_they_are(tmp_path: Path) -> None:
    written(tmp_path, hostile())
    features = records(tmp_path, "explain_1")
    assert all(isinstance(text, str) for feature in features for text in feature["top_activating_examples"])
    columns = sorted({column for feature in features for column in feature})
    table = io.StringIO(newline="")
    rows = csv.DictWriter(table, fieldnames=columns)
    rows.writeheader()
    rows.writerows({name: str(value) if isinstance(value, list | dict) else value for name, value in feature.items()} for feature in features)
    table.seek(0)
    assert len(list(csv.DictReader(table))) == len(features)
