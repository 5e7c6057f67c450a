import itertools
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from find_job_files import EXAMPLES, GEMMA, GPT2
from jsonschema import Draft202012Validator

import mistudio_explain
from mistudio_explain.intake.stage import read

ROOT = EXAMPLES.parent
JOBS = [(GPT2, "features", None), (GEMMA, "results", "gemma-2-2b")]


@pytest.fixture(scope="module")
def size_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("size") / "feature_analysis.json"
    subprocess.run([sys.executable, ROOT / "scripts" / "make_examples.py", "size", path], check=True)
    return path


@pytest.mark.parametrize(("path", "member", "model"), JOBS)
def test_the_examples_are_read_without_a_problem_and_follow_the_schema(path: Path, member: str, model: str | None) -> None:
    content = orjson.loads(path.read_bytes())
    schema = orjson.loads((Path(mistudio_explain.__file__).parent / "schemas" / "files" / "feature_analysis.schema.json").read_bytes())
    Draft202012Validator(schema).validate(content)
    job = read(path, target_model=model)
    assert {each.feature_key for each in job.features()} == {f"{each['source_id']}/{each['feature_id']}" for each in content[member]}


@pytest.mark.parametrize(("path", "member", "model"), JOBS)
def test_the_examples_coherence_is_finds_formula_on_their_own_texts(path: Path, member: str, model: str | None) -> None:
    for feature in orjson.loads(path.read_bytes())[member]:
        sets = [set(each["text"].lower().split()) for each in feature["top_activations"]]
        overlaps = [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
        assert feature["coherence_score"] == pytest.approx(sum(overlaps) / len(overlaps), abs=5e-5)


def test_the_file_of_finds_size_has_512_distinct_features_in_about_22_mb(size_file: Path) -> None:
    assert 21e6 < size_file.stat().st_size < 23e6
    job = read(size_file)
    texts = {tuple(each.text for each in feature.top_activations) for feature in job.features()}
    assert (job.total, len(texts)) == (512, 512)


def test_reading_the_file_of_finds_size_takes_no_more_memory_than_three_times_the_file(size_file: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("peak memory is read from /proc")
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "intake.py", size_file, "--only", "ours"], check=True, capture_output=True)
    figures = orjson.loads(done.stdout)
    assert figures["features"] == 512
    assert figures["bytes"] <= 3 * size_file.stat().st_size
