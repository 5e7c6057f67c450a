"""A file that `score` wrote stands where a job of the store could: in reports, comparisons and exports."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from mistudio_explain.cli.main import app
from mistudio_explain.cli.scored import GIVEN, job_of
from mistudio_explain.errors import BadInput
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes
from unit.cli.test_score import lines, pair


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, BadInput):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scored lines, one of them an explanation of a feature that has one, and one that could not be scored."""
    folder = tmp_path_factory.mktemp("scored")
    source = folder / "pairs.jsonl"
    broken = pair(12) | {"explanation": 12}
    source.write_bytes(b"\n".join(lines(*(pair(number) for number in range(11)), pair(3, said="clouds over the sea"), broken)) + b"\n")
    assert run("score", source, "--evidence", "--out", folder / "theirs.jsonl")[0] == 1
    return folder / "theirs.jsonl"


def test_its_outcomes_are_those_of_the_lines_with_the_first_explanation_of_a_feature(scored: Path) -> None:
    records = [orjson.loads(line) for line in scored.read_bytes().splitlines()]
    with job_of(str(scored), Settings()) as (settings, job):
        outcomes = {outcome.subject.feature_id: outcome for outcome in read_outcomes(settings.store, job)}
    assert job == "theirs"
    assert outcomes.keys() == {*map(str, range(11)), "12"}
    for record in records[:11]:
        outcome = outcomes[str(record["feature"]["feature_id"])]
        assert (outcome.explanation, outcome.quality_score) == (record["explanation"], record["quality_score"])
        assert outcome.accuracy is not None
        assert outcome.accuracy.p == record["accuracy"]["p"]
        assert outcome.evidence is not None
        assert [text.text for text in outcome.evidence.seen] == [text["text"] for text in record["evidence"]["seen"]]
    assert outcomes["12"].outcome == "failed"
    assert outcomes["12"].reason == records[12]["error"]


def test_it_is_reported_as_a_job_of_which_neither_time_nor_cost_is_known(scored: Path, tmp_path: Path) -> None:
    code, _ = run("report", scored, "--format", "json", "--out", tmp_path)
    content: Any = json.loads((tmp_path / "theirs" / "feature_explanations.json").read_bytes())
    metadata = content["job_metadata"]
    assert code == 0
    assert (metadata["status"], metadata["explained"], metadata["failed"], metadata["expected"]) == ("completed", 11, 1, 12)
    assert (metadata["processing_time"], metadata["wall_seconds"], metadata["cost_analysis"]) == (None, None, None)
    assert {record["generation"] for record in content["explanations"]} == {None}


def test_the_report_says_that_the_explanations_were_given(scored: Path, tmp_path: Path) -> None:
    code, told = run("report", scored, "--format", "json", "--out", tmp_path, "--json")
    assert code == 0
    assert GIVEN in json.loads(told.splitlines()[-1])["notes"]


def test_two_files_are_compared_feature_by_feature(scored: Path, tmp_path: Path) -> None:
    other = tmp_path / "ours.jsonl"
    swapped = [orjson.loads(line) for line in scored.read_bytes().splitlines()]
    swapped[0]["explanation"], swapped[0]["accuracy"] = "nothing of the kind", swapped[0]["accuracy"] | {"p": 0.01}
    other.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in swapped))
    code, told = run("compare", scored, other, "--json")
    (comparison,) = json.loads(told.splitlines()[-1])
    assert code == 0
    assert comparison["all"]["n"] == 11
    assert [each["feature_key"] for each in comparison["most_changed"]] == ["0"]


def test_it_is_exported_for_delphi(scored: Path, tmp_path: Path) -> None:
    assert run("export", scored, "--format", "delphi", "--out", tmp_path / "run")[0] == 0
    assert len(list((tmp_path / "run" / "explanations").iterdir())) == 11
    code, told = run("export", scored, "--format", "delphi", "--out", tmp_path / "run")
    assert (code, "is there already; name a new folder" in told) == (2, True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lines(pair(1)), r"line 1: is not scored; `mistudio-explain score"),
        ([b"{"], r"line 1: \$: "),
        ([], r"has no line"),
        (
            [b'{"job":"a","feature":{"feature_id":1},"explanation":"x","outcome":"explained","subject":{},"accuracy":7}'],
            r"line 1: \$\.accuracy: .*score it again",
        ),
    ],
)
def test_lines_that_no_job_can_be_made_of_are_refused_with_their_number(tmp_path: Path, given: list[bytes], expected: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"\n".join(given))
    with pytest.raises(BadInput, match=expected), job_of(str(path), Settings()):
        pass
