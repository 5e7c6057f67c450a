import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from reporting_samples import concerning, explained, failed, hostile, job_report, skipped

from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome
from mistudio_explain.events.feature import Activation, ActivationStatistics, Logit
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.reporting.stage import EXPLANATION_RESULTS, FEATURE_EXPLANATIONS, write_reports

SCHEMAS = Path(__file__).parents[3] / "schemas" / "files"


def strict(schema: Any) -> Any:
    """The schema with every key that it does not describe forbidden."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: strict(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(inner.get("properties"), dict) and "required" in inner else inner


def written(tmp_path: Path, outcomes: Iterable[FeatureOutcome], report: JobReport | None = None, name: str = FEATURE_EXPLANATIONS) -> Any:
    kept = list(outcomes)
    write_reports(report or job_report(), lambda: kept, tmp_path)
    content = json.loads((tmp_path / name).read_bytes())
    schema = json.loads((SCHEMAS / name.replace(".json", ".schema.json")).read_bytes())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(strict(schema), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(content)
    return content


def full() -> FeatureOutcome:
    return explained(
        subject_changes={
            "source_id": "layer.5",
            "statistics": ActivationStatistics(mean=0.1, std=0.2, max=4.0, frequency=0.02),
            "logits": [Logit(token=" json", value=1.5)],
        },
        earlier=Answer(pattern="Something about text."),
        pass_number=2,
    )


def bare() -> FeatureOutcome:
    return explained(
        subject_changes={"coherence_score": None},
        evidence=Evidence(seen=[Activation(text="only this")]),
        quality_score=None,
        accuracy=None,
        clarity=None,
        consistency=None,
        relevance=None,
        business_relevance=None,
        pattern_verification=None,
        confidence=None,
        safety=None,
        generation=None,
        unavailable={"accuracy": "there is no background"},
    )


def test_the_specification_s_keys_come_with_the_specification_s_values(tmp_path: Path) -> None:
    content = written(tmp_path, [explained()])
    assert list(content["explanations"][0].items())[:8] == [
        ("feature_id", 348),
        ("original_coherence", 0.1),
        ("explanation", "It fires on JSON schemas. It marks formal text. Steering it changes style."),
        ("explanation_quality", 0.9),
        ("explanation_confidence", 0.65),
        ("pattern_verification", "confirmed"),
        ("safety_assessment", "safe"),
        ("business_relevance", "high"),
    ]
    assert list(content["job_metadata"].items())[:5] == [
        ("explain_job_id", "explain_1"),
        ("source_find_job", "find_1"),
        ("processing_time", "24.3 minutes"),
        ("total_features_processed", 1),
        ("explanation_quality_average", 0.9),
    ]


@pytest.mark.parametrize("outcome", [full(), bare(), concerning()], ids=["full", "bare", "concerning"])
@pytest.mark.parametrize("name", [FEATURE_EXPLANATIONS, EXPLANATION_RESULTS])
def test_every_written_key_is_described_in_the_schema_whatever_an_outcome_has(tmp_path: Path, outcome: FeatureOutcome, name: str) -> None:
    assert written(tmp_path, [outcome, skipped(), failed(), failed(None)], name=name)


@pytest.mark.parametrize("name", [FEATURE_EXPLANATIONS, EXPLANATION_RESULTS])
def test_hostile_texts_come_back_from_the_json_files_as_they_were(tmp_path: Path, name: str) -> None:
    outcomes = hostile()
    records = written(tmp_path, outcomes, name=name)["explanations"]
    assert [r["explanation"] for r in records] == [o.explanation for o in outcomes if o.explanation is not None]


def test_skipped_and_failed_features_stand_apart_and_enter_no_mean(tmp_path: Path) -> None:
    content = written(tmp_path, [explained("1", quality_score=0.8), failed("2"), skipped("3"), explained("4", quality_score=0.4)])
    assert [r["feature_id"] for r in content["explanations"]] == [1, 4]
    assert [(r["feature_id"], r["reason"]) for r in content["skipped"]] == [(3, "coherence 0.10 is below 0.4")]
    assert [(r["feature_id"], r["reason"]) for r in content["failed"]] == [(2, "the answer was cut three times")]
    metadata = content["job_metadata"]
    assert metadata["explanation_quality_average"] == pytest.approx(0.6)
    assert (metadata["total_features"], metadata["total_features_processed"], metadata["explained"], metadata["skipped"], metadata["failed"]) == (4, 3, 2, 1, 1)


def test_a_component_that_could_not_be_computed_is_null_with_its_reason_and_enters_no_mean(tmp_path: Path) -> None:
    content = written(tmp_path, [bare(), explained("2", quality_score=0.5)])
    first = content["explanations"][0]
    assert (first["explanation_quality"], first["accuracy"], first["unavailable"]) == (None, None, {"accuracy": "there is no background"})
    assert content["job_metadata"]["explanation_quality_average"] == 0.5


def test_the_quality_average_of_nothing_is_null(tmp_path: Path) -> None:
    content = written(tmp_path, [skipped()])
    assert content["job_metadata"]["explanation_quality_average"] is None
    assert content["explanations"] == []


def test_the_five_insights_count_what_the_specification_says(tmp_path: Path) -> None:
    outcomes = [
        explained("1", quality_score=0.8),
        explained("2", quality_score=0.79, business_relevance="low", subject_changes={"category": "behavioral"}),
        concerning("3", quality_score=None, business_relevance="medium"),
        skipped("4"),
    ]
    assert written(tmp_path, outcomes)["summary_insights"] == {
        "high_quality_explanations": 1,
        "safety_concerns_identified": 1,
        "business_critical_features": 1,
        "technical_pattern_count": 2,
        "behavioral_pattern_count": 1,
    }


@pytest.mark.parametrize(
    ("feature_id", "expected"),
    [
        ("0", 0),
        ("348", 348),
        ("007", "007"),
        ("-5", "-5"),
        ("1e5", "1e5"),
        ("L5/3", "L5/3"),
        ("9007199254740991", 9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("1" * 200, "1" * 200),
    ],
)
def test_a_feature_id_is_an_integer_only_when_its_text_comes_back_from_it(tmp_path: Path, feature_id: str, expected: int | str) -> None:
    assert written(tmp_path, [explained(feature_id)])["explanations"][0]["feature_id"] == expected


@pytest.mark.parametrize(
    ("wall_s", "expected"),
    [(1458.0, "24.3 minutes"), (12.4, "12.4 seconds"), (59.94, "59.9 seconds"), (59.96, "1.0 minutes"), (0.0, "0.0 seconds"), (None, None)],
)
def test_processing_time_is_written_as_the_specification_writes_it(tmp_path: Path, wall_s: float | None, expected: str | None) -> None:
    assert written(tmp_path, [explained()], job_report(wall_s=wall_s))["job_metadata"]["processing_time"] == expected


def test_an_incomplete_job_says_so_and_names_what_is_missing(tmp_path: Path) -> None:
    content = written(tmp_path, [explained()], job_report(status=JobStatus.INCOMPLETE, missing=["5", "L1/6"]))
    assert content["job_metadata"]["status"] == "incomplete"
    assert content["missing"] == ["5", "L1/6"]


def test_a_record_that_could_not_be_read_is_listed_as_failed_without_an_id(tmp_path: Path) -> None:
    unread = failed(None, pass_number=1).model_copy(update={"subject": failed(None).subject.model_copy(update={"category": None, "category_source": None})})
    content = written(tmp_path, [unread])
    assert (content["failed"][0]["feature_id"], content["failed"][0]["feature_key"], content["failed"][0]["category"]) == (None, "unreadable", None)


def test_miStudioScore_gets_texts_strongest_first_and_plain_numbers(tmp_path: Path) -> None:  # noqa: N802 - the service's name
    content = written(tmp_path, [explained(), skipped()], name=EXPLANATION_RESULTS)
    assert content["timestamp"] == "2026-07-26T15:30:45.000+00:00"
    (record,) = content["explanations"]
    assert record["top_activating_examples"] == ["validate the schema", '{"type": "object"}', "a JSON schema"]
    assert (record["coherence_score"], record["max_activation"]) == (0.1, 3.0)


def test_the_corpus_s_greatest_activation_wins_over_the_kept_texts_greatest(tmp_path: Path) -> None:
    assert written(tmp_path, [full()], name=EXPLANATION_RESULTS)["explanations"][0]["max_activation"] == 4.0


def test_a_number_that_the_source_lacks_is_null_and_flagged_for_miStudioScore(tmp_path: Path) -> None:  # noqa: N802 - the service's name
    (record,) = written(tmp_path, [bare()], name=EXPLANATION_RESULTS)["explanations"]
    assert (record["coherence_score"], record["max_activation"]) == (None, None)
    assert record["flags"] == ["poor_coherence", "no_coherence_score", "no_max_activation"]
