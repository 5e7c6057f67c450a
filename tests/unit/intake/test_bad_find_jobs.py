import json
from pathlib import Path
from typing import Any

import pytest
from find_job_files import feature, found, found_feature, specified, write

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.stage import read

BROKEN_FEATURES: list[tuple[str, Any, str, str]] = [
    ("no id", {"coherence_score": 0.5}, "$.features[1].feature_id", "nothing, where a whole number, or a text of 1 to 200 characters"),
    ("an id with a bar", feature("a|b"), "$.features[1].feature_id", "the text 'a|b', where a whole number, or a text of 1 to 200 characters"),
    ("an id too long", feature("x" * 201), "$.features[1].feature_id", "…', where a whole number"),
    ("a fraction as id", feature(3.5), "$.features[1].feature_id", "the number 3.5, where a whole number, or a text"),
    ("true as id", feature(True), "$.features[1].feature_id", "true, where a whole number, or a text"),
    ("a bad source", feature(source_id=["a"]), "$.features[1].source_id", "a list, where a whole number, or a text"),
    ("a number in quotes", feature(coherence_score="0.5"), "$.features[1].coherence_score", "the text '0.5', where a number was expected"),
    ("a coherence above 1", feature(coherence_score=1.01), "$.features[1].coherence_score", "the number 1.01, where a number from 0 to 1 was expected"),
    ("a negative coherence", feature(coherence_score=-0.1), "$.features[1].coherence_score", "the number -0.1, where a number from 0 to 1"),
    ("a frequency above 1", feature(activation_statistics={"frequency": 2}), "$.features[1].activation_statistics.frequency", "less than or equal to 1"),
    ("texts that are an object", feature(top_activations={"text": "a"}), "$.features[1].top_activations", "an object, where a list was expected"),
    ("a text that is no object", feature(top_activations=["a"]), "$.features[1].top_activations[0]", "the text 'a'"),
    ("no text", feature(top_activations=[{"context": "a"}]), "$.features[1].top_activations[0].text", "nothing, where a value was expected"),
    ("a text that is a number", feature(top_activations=[{"text": 5}]), "$.features[1].top_activations[0].text", "the number 5, where a text was expected"),
    ("keywords as text", feature(pattern_keywords="json"), "$.features[1].pattern_keywords", "the text 'json', where a list was expected"),
    ("a keyword that is null", feature(pattern_keywords=["a", None]), "$.features[1].pattern_keywords[1]", "null, where a text was expected"),
    (
        "fewer activations than tokens",
        feature(top_activations=[{"text": "ab", "tokens": ["a", "b"], "token_activations": [1]}]),
        "$.features[1].top_activations[0]",
        "token_activations: 1 values for 2 tokens",
    ),
    ("a feature that is a number", 7, "$.features[1]", "the number 7, where an object with a feature was expected"),
    ("a feature that is null", None, "$.features[1]", "null, where an object with a feature was expected"),
    ("NaN", feature(activation_statistics={"std": float("nan")}), "$.features[1].activation_statistics.std", "nan is no JSON number"),
    (
        "infinity",
        feature(top_activations=[{"text": "a"}, {"text": "b", "activation_strength": -float("inf")}]),
        ".top_activations[1].activation_strength",
        "-inf",
    ),
    ("half a surrogate pair", feature(top_activations=[{"text": "a\ud800b"}]), "$.features[1].top_activations[0].text", "half of a surrogate pair"),
    ("the same feature again", feature(1), "$.features[1]", "feature '1' stands twice, first at $.features[0]; once was expected"),
    ("the same feature as text", feature("1"), "$.features[1]", "feature '1' stands twice"),
    ("deep nesting", feature(note=json.loads("[" * 80 + "]" * 80)), "$.features[1]", "nested too deep; at most 64 levels were expected"),
    ("too many texts", feature(top_activations=[{"text": "x" * 1000}] * 1100), "$.features[1]", "limits] event_bytes"),
]


@pytest.mark.parametrize(("spoiled", "where", "what"), [each[1:] for each in BROKEN_FEATURES], ids=[each[0] for each in BROKEN_FEATURES])
def test_a_broken_feature_is_named_with_file_path_and_expectation(tmp_path: Path, spoiled: Any, where: str, what: str) -> None:
    path = write(tmp_path, specified(feature(1), spoiled, feature(2)))
    with pytest.raises(BadInput) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: $.")
    assert where in message
    assert what in message
    assert "--keep-going" in message


@pytest.mark.parametrize(("spoiled", "where", "what"), [each[1:] for each in BROKEN_FEATURES], ids=[each[0] for each in BROKEN_FEATURES])
def test_keep_going_leaves_the_broken_feature_out_and_says_so(tmp_path: Path, spoiled: Any, where: str, what: str) -> None:
    job = read(write(tmp_path, specified(feature(1), spoiled, feature(2))), keep_going=True)
    assert [each.feature_id for each in job.features()] == ["1", "2"]
    assert (job.total, job.left_out) == (2, 1)
    assert where in str(job.problems[0])
    assert what in str(job.problems[0])


BROKEN_FILES: list[tuple[str, Any, str, str]] = [
    ("empty", b"", "$", "the file is empty"),
    ("blank", b" \n\t", "$", "the file is empty"),
    ("a list", b"[]", "$", "the file holds a list, where one JSON object was expected"),
    ("a text", b"feature 1", "$", 'the file begins with "feature 1"'),
    ("UTF-16", json.dumps(specified(feature())).encode("utf-16"), "$", "UTF-16 or UTF-32, not UTF-8"),
    ("compressed", b"\x1f\x8b\x08\x00\x00", "$", "gzip-compressed"),
    ("Latin-1", b'{"job_id": "caf\xe9", "results": [{}]}', "$.job_id", "bytes that are not UTF-8"),
    ("two objects", json.dumps(specified(feature())).encode() * 2, "$", "something follows the end of the object, at line 1"),
    ("no features", {"job_metadata": {"job_id": "x"}}, "$", "the object has `job_metadata`, but no list of features"),
    ("both lists", {"features": [], "results": []}, "$", "both lists of features"),
    ("features that are an object", {"job_metadata": {"job_id": "x"}, "features": {}}, "$.features", "a list of features was expected"),
    ("0 features", specified(), "$.features", "an empty list; at least one feature was expected"),
    ("no job id", specified(feature(), job_id=None), "$.job_metadata.job_id", "nothing, where a job id"),
    ("a bad job id", specified(feature(), job_id="a|b"), "$.job_metadata.job_id", "the text 'a|b', where a job id"),
    ("a number as job id", specified(feature(), job_id=5), "$.job_metadata.job_id", "the number 5, where a job id"),
    ("metadata that is a list", {"job_metadata": [], "features": [feature()]}, "$.job_metadata", "a list, where an object was expected"),
    ("an empty model", specified(feature(), model_name=""), "$.job_metadata.model_name", "a text of 1 to 400 characters"),
    ("no model", specified(feature(), model_name=None), "$.job_metadata.model_name", "--target-model"),
    ("a total in quotes", specified(feature(), total_features="1"), "$.job_metadata.total_features", "the text '1', where the number of features"),
    ("another total", specified(feature(), total_features=2), "$.job_metadata.total_features", "the number 2, but $.features has 1"),
    ("a list as time", specified(feature(), processing_time=[]), "$.job_metadata.processing_time", "a text or a number of seconds"),
    ("NaN beside the features", specified(feature()) | {"extra": [1, float("nan")]}, "$.extra[1]", "nan is no JSON number"),
    ("broken JSON beside the features", b'{"job_metadata": {"job_id": "x"}, "features": [], "extra": [1 2]}', "$.extra", "no valid JSON"),
    ("a name twice", b'{"features": [], "features": []}', "$.features", "the name stands twice"),
    ("no comma", b'{"a": 1 "features": []}', "$.a", "a comma or } after this value was expected"),
    ("no colon", b'{"a" 1}', "$", "a name in double quotes and a colon was expected"),
    ("a trailing comma", b'{"features": [{},]}', "$.features[1]", "line 1, column 18"),
    ("features without commas", b'{"features": [{} {}]}', "$.features[0]", "a comma or ] after this value was expected"),
    ("a missing bracket", b'{"features": [{"a": [1}, {}]}', "$.features[0]", "no valid JSON: unexpected character, expected ',' or ']', at line 1, column 23"),
    ("deep nesting beside the features", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "$.a", "nested 100 levels deep"),
    ("open brackets", b'{"features": ' + b"[" * 5000, "$.features[0]", "no valid JSON"),
]


@pytest.mark.parametrize(("content", "where", "what"), [each[1:] for each in BROKEN_FILES], ids=[each[0] for each in BROKEN_FILES])
def test_a_broken_file_is_named_with_path_and_expectation(tmp_path: Path, content: Any, where: str, what: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(BadInput) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {where}: ")
    assert what in str(caught.value)


BROKEN_RESULTS: list[tuple[str, Any, str, str]] = [
    ("a negative ranking", found(found_feature(top_activations=[{"text": "a", "ranking": -1}])), "$.results[0].top_activations[0].ranking", "the number -1"),
    ("a ranking in quotes", found(found_feature(top_activations=[{"text": "a", "ranking": "1"}])), ".top_activations[0].ranking", "the text '1'"),
    ("Find's name of a field", found(found_feature(statistics={"mean_activation": "x"})), "$.results[0].statistics.mean_activation", "the text 'x'"),
    ("a strength", found(found_feature(top_activations=[{"text": "a", "activation_value": []}])), ".top_activations[0].activation_value", "a list"),
    ("a category", found(found_feature(classification={"primary_category": 3})), "$.results[0].classification.primary_category", "the number 3"),
    ("a confidence", found(found_feature(classification={"confidence_score": 3})), "$.results[0].classification.confidence_score", "from 0 to 1"),
    ("an unfinished job", found(found_feature(), status="running"), "$.status", "'completed' was expected"),
    ("another total", found(found_feature(), metadata={"total_features": 512}), "$.metadata.total_features", "the number 512, but $.results has 1"),
]


@pytest.mark.parametrize(("content", "where", "what"), [each[1:] for each in BROKEN_RESULTS], ids=[each[0] for each in BROKEN_RESULTS])
def test_finds_own_shape_is_spoken_of_in_finds_own_names(tmp_path: Path, content: Any, where: str, what: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(write(tmp_path, content), target_model="m")
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_bytes_that_are_not_utf8_are_found_within_a_feature(tmp_path: Path) -> None:
    content = json.dumps(specified(feature(1), feature(2, top_activations=[{"text": "café"}])), ensure_ascii=False).encode("latin-1")
    with pytest.raises(BadInput, match=r"\$\.features\[1\]\.top_activations\[0\]\.text: the text has bytes that are not UTF-8"):
        read(write(tmp_path, content))


@pytest.mark.parametrize("cut", [30, 200, 1100, 1700])
def test_a_truncated_file_says_where_it_ends(tmp_path: Path, cut: int) -> None:
    content = json.dumps(specified(feature(1), feature(2), feature(3)), indent=2).encode()
    with pytest.raises(BadInput, match=r"\$.*truncated"):
        read(write(tmp_path, content[:cut]))


def test_keep_going_takes_the_features_before_the_end_of_a_truncated_file(tmp_path: Path) -> None:
    content = json.dumps(specified(feature(1), feature(2), feature(3)), indent=2).encode()
    job = read(write(tmp_path, content[: content.rindex(b"feature_id")]), keep_going=True)
    assert [each.feature_id for each in job.features()] == ["1", "2"]
    assert "truncated" in str(job.problems[0])


def test_keep_going_with_no_feature_left_is_still_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no feature is left"):
        read(write(tmp_path, specified(feature("|"))), keep_going=True)


def test_several_problems_are_listed_together_and_many_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, specified(*({"feature_id": f"{number}|"} for number in range(12))))
    with pytest.raises(BadInput) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines[:10]] == [f"$.features[{number}].feature_id" for number in range(10)]
    assert lines[10] == "and 2 more"


def test_a_list_of_nothing_but_wrong_elements_does_not_fill_the_memory_with_messages(tmp_path: Path) -> None:
    path = write(tmp_path, specified(*range(3000), feature()))
    with pytest.raises(BadInput, match="and at least 990 more"):
        read(path)
    job = read(path, keep_going=True)
    assert (job.total, job.left_out, len(job.problems)) == (1, 3000, 1000)


def test_a_model_that_contradicts_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"target model is 'microsoft/phi-4', but --target-model says 'gpt2'"):
        read(write(tmp_path, specified(feature())), target_model="gpt2")


@pytest.mark.parametrize("model", ["", "x" * 401, "a\udc80"])
def test_a_model_name_that_cannot_travel_is_an_error(tmp_path: Path, model: str) -> None:
    with pytest.raises(BadInput, match="--target-model"):
        read(write(tmp_path, found(found_feature())), target_model=model)


def test_the_file_must_be_of_the_job_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"of the find job 'find_20250726_151321_d9675dce'; 'find_other' was expected"):
        read(write(tmp_path, specified(feature())), find_job_id="find_other")


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder; name the file in it"):
        read(tmp_path)
    with pytest.raises(BadInput, match="there is no such file"):
        read(tmp_path / "absent.json")
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "nul\0.json")


def test_an_event_just_within_the_limit_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    from mistudio_explain.events.codec import encode
    from mistudio_explain.intake.feature import REQUEST_BYTES

    path = write(tmp_path, specified(feature(top_activations=[{"text": "x" * 5000}])))
    size = len(encode(next(read(path).features())))
    assert read(path, event_bytes=size + REQUEST_BYTES).total == 1
    with pytest.raises(BadInput, match=f"an event of {size} bytes; at most {size - 1} fit"):
        read(path, event_bytes=size + REQUEST_BYTES - 1)
