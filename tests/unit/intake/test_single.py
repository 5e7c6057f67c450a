"""One feature out of a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.single import read_single
from unit.intake.find_job_files import GEMMA, GPT2


def written(folder: Path, value: Any) -> Path:
    path = folder / "feature.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


SPECIFIED = {"feature_id": 5, "pattern_keywords": ["dog"], "top_activations": [{"text": "A dog.", "activation_strength": 2.0}]}
FINDS = {"feature_id": 5, "coherence_score": 0.1, "top_activations": [{"text": "A dog.", "activation_value": 2.0, "text_index": 3, "ranking": 0}]}


@pytest.mark.parametrize("shape", [SPECIFIED, FINDS])
def test_a_feature_in_a_file_of_its_own_is_read_in_either_shape(tmp_path: Path, shape: dict[str, Any]) -> None:
    single = read_single(written(tmp_path, shape), None, find_job_id="find_1", target_model="m")
    assert (single.feature.feature_key, single.feature.find_job_id, single.feature.target_model) == ("5", "find_1", "m")
    assert single.feature.top_activations[0].activation_strength == 2.0
    assert single.job == ()


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert read_single(written(tmp_path, "\ufeff" + json.dumps(SPECIFIED)), None).feature.feature_key == "5"


@pytest.mark.parametrize("path", [GPT2, GEMMA])
def test_one_feature_of_a_find_job_comes_with_all_others(path: Path) -> None:
    document = json.loads(path.read_text())
    count = len(document.get("features") or document["results"])
    first = read_single(path, str((document.get("features") or document["results"])[0]["feature_id"]), target_model=None if path == GPT2 else "gemma")
    assert len(first.job) == count
    assert first.feature in first.job


@pytest.mark.parametrize("path", [GPT2, GEMMA])
def test_a_find_job_is_read_once_whatever_is_asked_of_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = Path.read_bytes

    def counted(file: Path) -> bytes:
        read.append(file)
        return whole(file)

    monkeypatch.setattr(Path, "read_bytes", counted)
    with pytest.raises(BadInput, match="no feature '99999'"):
        read_single(path, "99999", target_model=None if path == GPT2 else "gemma")
    assert read.count(path) == 1


def test_what_is_missing_is_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"16 features, such as .*--feature"):
        read_single(GPT2, None)
    with pytest.raises(BadInput, match="no feature '99999'; there are 16, such as"):
        read_single(GPT2, "99999")
    with pytest.raises(BadInput, match="no feature '7'; there are 1"):
        read_single(written(tmp_path, SPECIFIED), "7")
    with pytest.raises(BadInput, match="no such file"):
        read_single(tmp_path / "nothing.json", None)


def test_a_number_that_two_layers_share_must_be_named_with_its_layer(tmp_path: Path) -> None:
    two = [{**SPECIFIED, "source_id": layer} for layer in ("a", "b")]
    path = written(tmp_path, {"job_metadata": {"job_id": "find_1", "model_name": "m"}, "features": two})
    with pytest.raises(BadInput, match="2 features are called '5'; name one with its layer: a/5, b/5"):
        read_single(path, "5")
    assert read_single(path, "b/5").feature.source_id == "b"


def test_another_feature_that_is_wrong_does_no_harm_and_is_told_when_it_was_meant(tmp_path: Path) -> None:
    wrong = {**SPECIFIED, "feature_id": 6, "top_activations": "none"}
    path = written(tmp_path, {"job_metadata": {"job_id": "find_1", "model_name": "m"}, "features": [SPECIFIED, wrong]})
    assert read_single(path, "5").feature.feature_key == "5"
    with pytest.raises(BadInput, match=r"no feature '6'.*features\[1\]"):
        read_single(path, "6")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"feature_id": 5, "top_activations": [', "truncated"),
        ('{"feature_id": 5, "top_activations": 7}', "a list"),
        ("[1]", "object"),
        ("{}", "no list of features"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_single(written(tmp_path, text), None)
