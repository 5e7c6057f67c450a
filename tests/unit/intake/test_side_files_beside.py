from pathlib import Path
from typing import Any

import pytest
from find_job_files import feature, found, found_feature, specified, write

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.stage import read


def test_a_side_file_counts_more_than_the_feature_and_the_source_is_recorded(tmp_path: Path) -> None:
    path = write(tmp_path, specified(feature(1), feature(2), feature(3, pattern_category=None)))
    side = write(tmp_path, {"features": {"1": {"pattern_category": "temporal", "pattern_keywords": ["time"]}}}, "pattern_categories.json")
    quality = write(tmp_path, {"features": {"2": {"coherence_score": 0.9, "quality_level": "high"}}}, "quality_metrics.json")
    job = read(path)
    by_id = {each.feature_id: each for each in job.features()}
    assert (by_id["1"].pattern_category, by_id["1"].pattern_keywords) == ("temporal", ["time"])
    assert (by_id["2"].coherence_score, by_id["2"].quality_level, by_id["2"].pattern_category) == (0.9, "high", "technical")
    assert list(by_id) == ["2", "1", "3"]
    assert job.side_files == (side, quality)
    assert (job.category_sources.side_file, job.category_sources.feature, job.category_sources.inferred) == (1, 1, 1)


def test_both_side_files_add_to_one_classification(tmp_path: Path) -> None:
    path = write(tmp_path, found(found_feature(7)))
    write(tmp_path, {"features": {"7": {"semantic_tags": ["new"], "complexity_score": 0.1}}}, "pattern_categories.json")
    write(tmp_path, {"features": {"7": {"confidence_score": 0.99}}}, "quality_metrics.json")
    classification = next(read(path, target_model="m").features()).classification
    assert classification is not None
    assert (classification.semantic_tags, classification.complexity_score, classification.confidence_score) == (["new"], 0.1, 0.99)
    assert classification.secondary_categories == ["technical"]


def test_entries_are_keyed_by_source_and_feature_where_features_have_a_source(tmp_path: Path) -> None:
    path = write(tmp_path, specified(feature(5, source_id=0), feature(5, source_id=1)))
    write(tmp_path, {"features": {"1/5": {"pattern_category": "temporal"}}}, "pattern_categories.json")
    assert {each.feature_key: each.pattern_category for each in read(path).features()} == {"0/5": "technical", "1/5": "temporal"}


def test_an_entry_for_a_feature_that_the_job_lacks_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, specified(feature(1)))
    side = write(tmp_path, {"features": {"2": {"pattern_category": "temporal"}}}, "pattern_categories.json")
    with pytest.raises(BadInput) as caught:
        read(path)
    assert str(caught.value).startswith(f"{side}: $.features['2']: {path} has no feature with this key")
    assert read(path, keep_going=True).total == 1


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"features": {"1": {"coherence_score": "high"}}}, "$.features['1'].coherence_score: the text 'high', where number was expected"),
        ({"features": {"1": {"coherence_score": 2}}}, "$.features['1'].coherence_score"),
        ({"features": {"1": {"coherance": 0.2}}}, "$.features['1']"),
        ({"features": []}, "$.features: a list, where object was expected"),
        ({}, "$: 'features' is a required property"),
        ([], "$: a list, where object was expected"),
        ({"job_id": "find_other", "features": {}}, "$.job_id: the text 'find_other'"),
        (b'{"features": {"1": {"coherence_score": NaN}}}', "$.features['1'].coherence_score: nan is no JSON number"),
        (b'{"features"', "$: the file ends in the middle"),
        (b"", "$: the file ends in the middle"),
    ],
)
def test_a_broken_side_file_is_named_with_path_and_expectation(tmp_path: Path, content: Any, where: str) -> None:
    path = write(tmp_path, specified(feature(1)))
    side = write(tmp_path, content, "quality_metrics.json")
    with pytest.raises(BadInput) as caught:
        read(path)
    assert str(caught.value).startswith(f"{side}: {where}")


def test_in_a_folder_of_many_jobs_a_side_file_of_the_jobs_own_name_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path, found(found_feature(1)), "find_a_results.json")
    plain = write(tmp_path, {"features": {"1": {"pattern_category": "temporal"}}}, "pattern_categories.json")
    assert read(path, target_model="m").side_files == (plain,)
    own = write(tmp_path, {"features": {"1": {"pattern_category": "technical"}}}, "find_a_pattern_categories.json")
    job = read(path, target_model="m")
    assert job.side_files == (own,)
    assert next(job.features()).pattern_category == "technical"
