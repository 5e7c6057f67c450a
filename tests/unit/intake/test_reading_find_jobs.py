import json
from pathlib import Path
from typing import Any

import pytest
from find_job_files import feature, found, found_feature, specified, write
from jsonschema import Draft202012Validator

import mistudio_explain
from mistudio_explain.events.feature import ActivationStatistics, JobRequest
from mistudio_explain.intake.stage import read


def test_the_specifications_shape_is_read_whole(tmp_path: Path) -> None:
    job = read(write(tmp_path, specified(feature())))
    assert (job.shape, job.total, job.left_out, job.problems) == ("specification", 1, 0, ())
    assert job.find_job_id == "find_20250726_151321_d9675dce"
    assert job.target_model == "microsoft/phi-4"
    assert job.source_training_job == "train_20250725_222505_9775"
    assert job.processing_time == "1.1 seconds"
    (only,) = job.features()
    assert only.feature_id == "348"
    assert (only.find_job_id, only.target_model, only.source_training_job) == (job.find_job_id, job.target_model, job.source_training_job)
    assert (only.coherence_score, only.quality_level, only.pattern_category) == (0.501, "medium", "technical")
    assert only.pattern_keywords == ["json", "schema", "validation"]
    assert only.top_activations[0].model_dump(exclude_none=True) == {
        "text": "JSON schema validation patterns...",
        "activation_strength": 0.89,
        "context": "API documentation",
    }
    assert only.activation_statistics == ActivationStatistics(mean=0.15, std=0.08, frequency=0.023)


def test_what_find_really_writes_is_read_whole(tmp_path: Path) -> None:
    job = read(write(tmp_path, found(found_feature())), target_model="microsoft/phi-4")
    assert (job.shape, job.find_job_id, job.source_training_job) == ("find", "find_20250726_151321_d9675dce", "train_20250725_222505_9775")
    assert job.processing_time == "1.1 seconds"
    (only,) = job.features()
    assert only.target_model == "microsoft/phi-4"
    assert [(each.text, each.activation_strength) for each in only.top_activations] == [("first", 0.9), ("second", 0.5)]
    assert only.activation_statistics == ActivationStatistics(mean=0.15, std=0.08, max=0.9, frequency=0.023)
    assert only.pattern_category == "behavioral"
    assert only.quality_level == "medium"
    assert only.classification is not None
    assert only.classification.model_dump() == {
        "secondary_categories": ["technical"],
        "semantic_tags": ["tool_usage"],
        "behavioral_indicators": ["polite_refusal"],
        "quality_tier": "fair",
        "complexity_score": 0.4,
        "confidence_score": 0.6,
    }


@pytest.mark.parametrize("metadata_first", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_members_may_stand_in_any_order_and_layout(tmp_path: Path, metadata_first: bool, indent: int | None) -> None:
    content = specified(feature(1), feature(2, top_activations=[{"text": 'a "quoted" ] } \\ text'}]))
    members = sorted(content.items(), reverse=not metadata_first)
    text = json.dumps(dict(reversed(members)) if metadata_first else dict(members), indent=indent)
    assert [each.feature_id for each in read(write(tmp_path, text.encode())).features()] == ["1", "2"]


def test_a_feature_number_and_the_same_number_as_text_are_one_id(tmp_path: Path) -> None:
    assert [each.feature_id for each in read(write(tmp_path, specified(feature(348), feature("349")))).features()] == ["348", "349"]


def test_the_same_number_in_two_sources_is_two_features(tmp_path: Path) -> None:
    job = read(write(tmp_path, specified(feature(5, source_id=0), feature(5, source_id="blocks.1"))))
    assert [each.feature_key for each in job.features()] == ["0/5", "blocks.1/5"]


def test_null_is_the_same_as_absent_and_unknown_members_are_left_out(tmp_path: Path) -> None:
    job = read(write(tmp_path, specified(feature(coherence_score=None, pattern_category=None, note={"by": "hand"}))))
    (only,) = job.features()
    assert (only.coherence_score, only.pattern_category) == (None, None)


def test_finds_unknown_category_is_no_category(tmp_path: Path) -> None:
    job = read(write(tmp_path, found(found_feature(classification={"primary_category": "unknown"}))), target_model="m")
    assert next(job.features()).pattern_category is None
    assert job.category_sources.inferred == 1


def test_finds_ranking_counts_more_than_the_strengths(tmp_path: Path) -> None:
    texts = [{"text": "stronger", "activation_value": 2, "ranking": 2}, {"text": "first", "activation_value": 1, "ranking": 1}]
    job = read(write(tmp_path, found(found_feature(top_activations=texts))), target_model="m")
    assert [each.text for each in next(job.features()).top_activations] == ["first", "stronger"]


@pytest.mark.parametrize("content", [specified(feature(), feature("a", source_id=3)), found(found_feature(), found_feature(5, coherence_score=None))])
def test_what_is_read_follows_the_json_schema(tmp_path: Path, content: dict[str, Any]) -> None:
    schema = json.loads((Path(mistudio_explain.__file__).parent / "schemas" / "files" / "feature_analysis.schema.json").read_bytes())
    Draft202012Validator(schema).validate(content)
    assert read(write(tmp_path, content), target_model=None if "features" in content else "m").total == 2


def test_texts_without_ranking_come_by_strength_and_else_stay_as_they_stand(tmp_path: Path) -> None:
    weak_first = [{"text": "weak", "activation_strength": 1}, {"text": "strong", "activation_strength": 2}]
    unmeasured = [{"text": "one", "activation_strength": 1}, {"text": "two"}]
    job = read(write(tmp_path, specified(feature(1, top_activations=weak_first), feature(2, top_activations=unmeasured))))
    assert [[each.text for each in one.top_activations] for one in job.features()] == [["strong", "weak"], ["one", "two"]]


def test_each_feature_carries_the_request_block(tmp_path: Path) -> None:
    request = JobRequest(explain_job_id="explain_other", tenant="acme", expected=2)
    job = read(write(tmp_path, specified(feature(1), feature(2))))
    assert [each.request for each in job.features(request)] == [request, request]
    assert [each.request for each in job.features()] == [None, None]


def test_the_model_of_finds_shape_comes_from_the_file_when_it_names_one(tmp_path: Path) -> None:
    content = found(found_feature())
    content["metadata"]["model_name"] = "gpt2"
    assert read(write(tmp_path, content)).target_model == "gpt2"


def test_what_was_checked_is_what_is_published_even_if_the_file_changes_meanwhile(tmp_path: Path) -> None:
    path = write(tmp_path, specified(feature(1), feature(2)))
    job = read(path)
    path.write_bytes(b"")
    assert [each.feature_id for each in job.features()] == ["1", "2"]


def test_a_byte_order_mark_before_the_object_is_skipped(tmp_path: Path) -> None:
    assert read(write(tmp_path, b"\xef\xbb\xbf" + json.dumps(specified(feature())).encode())).total == 1
