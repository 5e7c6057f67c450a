"""Explanations of other projects find their features, and become lines that `score` takes."""

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from mistudio_explain.cli.main import app
from mistudio_explain.errors import BadInput
from mistudio_explain.intake.formats.choice import read_input, read_said

SAMPLES = Path(__file__).parents[2] / "data" / "formats"
EXPORT = SAMPLES / "neuronpedia" / "0-res-jb"
BATCH = SAMPLES / "saedashboard" / "batch-1.json.gz"
NEURONS = SAMPLES / "openai" / "neurons.jsonl"
LINES = SAMPLES / "jsonl" / "features.jsonl"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, BadInput):  # the entry point ends with its exit code and prints it
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def pairs(tmp_path: Path, *arguments: object) -> tuple[int, list[Any]]:
    out = tmp_path / "pairs.jsonl"
    code, _ = run("pairs", *arguments, "--out", out)
    return code, [orjson.loads(line) for line in out.read_bytes().splitlines()]


def latents(folder: Path, **said: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in said.items():
        (folder / f"{name.replace('__', '.')}.txt").write_bytes(orjson.dumps(text))
    return folder


def test_lines_with_explanations_become_pairs_that_score_takes(tmp_path: Path) -> None:
    code, made = pairs(tmp_path, LINES)
    records = [json.loads(line) for line in LINES.read_text().splitlines()]
    assert code == 0
    assert [line["explanation"] for line in made] == [record["explanation"] for record in records if record["explanation"]]
    assert made[0]["feature"]["top_activations"][0]["token_activations"] == records[0]["activations"][0]["values"]
    assert made[0]["feature"]["computed"] == ["coherence_score", "pattern_keywords"]
    code, _ = run("score", tmp_path / "pairs.jsonl", "--out", tmp_path / "scores.jsonl")
    scored = [orjson.loads(line) for line in (tmp_path / "scores.jsonl").read_bytes().splitlines()]
    assert code == 0
    assert {line["subject"]["tier"] for line in scored} == {"unknown"}
    assert all(0 < line["accuracy"]["p"] < 1 for line in scored)


def test_neuronpedia_s_explanations_are_read_with_the_features_or_beside_them(tmp_path: Path) -> None:
    records = [{"id": "c1", "modelId": "gpt2-small", "layer": "0-res-jb", "index": str(index), "description": f"said of {index}"} for index in (2, 3, 99)]
    alone = tmp_path / "explanations.jsonl"
    alone.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, made = pairs(tmp_path, alone, "--format", "neuronpedia", "--features", BATCH)
    assert code == 1, "99 is no feature of the batch"
    assert {(line["feature"]["feature_id"], line["explanation"]) for line in made} == {("2", "said of 2"), ("3", "said of 3")}

    whole = tmp_path / "whole"
    for kind in ("features", "activations"):
        (whole / kind).mkdir(parents=True)
        (whole / kind / "batch-0.jsonl.gz").write_bytes((EXPORT / kind / "batch-1.jsonl.gz").read_bytes())
    (whole / "explanations").mkdir()
    (whole / "explanations" / "batch-0.jsonl.gz").write_bytes(gzip.compress(alone.read_bytes()))
    assert read_said(EXPORT).explanations == {}
    # an export's lines carry the index as a number or as text, its explanations as text
    assert read_said(whole).explanations == {"0-res-jb/2": ["said of 2"], "0-res-jb/3": ["said of 3"]}


def test_delphi_s_explanations_find_their_features_by_number_where_there_is_one_source(tmp_path: Path) -> None:
    folder = latents(tmp_path / "run" / "explanations", layers__5_latent2="on MRI", layers__5_latent3="Explanation could not be parsed.")
    said = read_said(folder.parent, features=BATCH)
    assert said.explanations == {"0-res-jb/2": ["on MRI"]}
    assert said.silent == 1


def test_delphi_s_explanations_of_several_hookpoints_find_only_features_of_theirs(tmp_path: Path) -> None:
    folder = latents(tmp_path / "run", **{"0-res-jb_latent2": "of layer 0", "layers__5_latent3": "of another"})
    said = read_said(folder, features=BATCH)
    assert (dict(said.explanations), list(said.strangers)) == ({"0-res-jb/2": ["of layer 0"]}, ["layers.5/3"])


def test_openai_s_results_give_each_of_their_explanations(tmp_path: Path) -> None:
    results = {
        "neuron_id": {"layer_index": 0, "neuron_index": 1},
        "scored_explanations": [{"explanation": " one", "scored_simulation": {}}, {"explanation": " two", "scored_simulation": {}}],
    }
    path = tmp_path / "1.jsonl"
    path.write_text(json.dumps(results))
    code, made = pairs(tmp_path, path, "--features", NEURONS, "--target-model", "gpt2-xl")
    assert (code, [line["explanation"] for line in made]) == (0, ["one", "two"])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: latents(folder, x_latent1="one"), r"name the features that they are of with --features"),
        (lambda folder: folder.mkdir(), r"nothing tells whose explanations these are; say it with --format"),
    ],
)
def test_explanations_without_features_or_of_nobody_are_refused(tmp_path: Path, make: Any, expected: str) -> None:
    make(tmp_path / "run")
    with pytest.raises(BadInput, match=expected):
        read_said(tmp_path / "run")


def test_a_file_of_delphi_s_that_holds_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    folder = latents(tmp_path / "run", x_latent2="one")
    (folder / "x_latent3.txt").write_text('{"a": 1}')
    with pytest.raises(BadInput, match=r"x_latent3\.txt: \$: an object, where a text was expected"):
        read_said(folder, features=BATCH)


def test_pairs_of_which_none_belongs_to_a_feature_leave_no_file(tmp_path: Path) -> None:
    folder = latents(tmp_path / "run", a_latent2="one", b_latent3="two")
    code, told = run("pairs", folder, "--features", BATCH, "--out", tmp_path / "pairs.jsonl")
    assert code == 2
    assert "no explanation belongs to any of the 2 features" in " ".join(told.split())
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"features": 1, "model_id": "x", "sae_set": "y"}', '{"modelId": 1, "layer": 2, "index": []}'])
def test_run_ends_with_2_and_names_the_file_for_what_it_cannot_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "input.json"
    path.write_text(content)
    code, told = run("run", path, "--dry-run")
    assert code == 2
    assert "input.json" in told


def test_a_dry_run_says_what_it_read_and_that_features_without_a_stated_coherence_are_explained() -> None:
    code, told = run("run", EXPORT, "--dry-run")
    assert code == 0
    said = " ".join(told.split())
    assert "read as neuronpedia: a folder with activations/" in said
    assert "2 features (2 unknown), 2 to explain" in said


def test_a_file_read_as_the_format_it_is_not_is_told_what_it_looks_like() -> None:
    with pytest.raises(BadInput, match="it looks like saedashboard: an object with sae_set"):
        read_input(BATCH, "jsonl")
