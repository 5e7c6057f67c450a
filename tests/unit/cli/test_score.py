"""`score`: lines in, the same lines with their scores out."""

import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from mistudio_explain.cli import score_lines
from mistudio_explain.cli.main import app
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.validation.accuracy import logit_of, sigmoid
from unit.context.finding import ANIMALS
from unit.intake.find_job_files import found_feature

THINGS = ("hammer", "kettle", "violin", "ladder", "candle", "basket", "mirror", "pillow", "rocket", "anchor", "bottle", "carpet")


def feature(number: int) -> dict[str, Any]:
    """A feature about one thing, in the specification's shape or as miStudioFind writes it."""
    thing = THINGS[number % len(THINGS)]
    texts = [f"The {animal} number {number} hid behind a {thing} of {animal}town." for animal in ANIMALS[:10]]
    if number % 2:
        activations = [{"text": text, "activation_value": 1.0 - place / 20, "ranking": place} for place, text in enumerate(texts)]
        return found_feature(number, top_activations=activations, pattern_keywords=["hid", thing])
    return {"feature_id": number, "pattern_keywords": ["hid", thing], "top_activations": [{"text": text} for text in texts]}


def pair(number: int, job: str = "find_a", said: str | None = None) -> dict[str, Any]:
    return {"job": job, "feature": feature(number), "explanation": said or f"animals hiding behind a {THINGS[number % len(THINGS)]}"}


def lines(*pairs: dict[str, Any]) -> list[bytes]:
    return [json.dumps(each).encode() for each in pairs]


def run(tmp_path: Path, given: Sequence[bytes], *options: str) -> tuple[int, list[dict[str, Any]]]:
    source, out = tmp_path / "pairs.jsonl", tmp_path / "scores.jsonl"
    source.write_bytes(b"\n".join(given) + b"\n")
    result = CliRunner().invoke(app, ["score", str(source), "--out", str(out), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, [orjson.loads(line) for line in out.read_bytes().splitlines()]


def test_each_line_comes_out_in_its_place_with_the_fields_of_its_outcome(tmp_path: Path) -> None:
    given = lines(*(pair(number) for number in range(12)))
    code, scored = run(tmp_path, given)
    assert code == 0
    assert [line["feature"]["feature_id"] for line in scored] == list(range(12))
    for line in scored:
        assert line["accuracy"]["p"] > 0.55
        assert line["background_features"] == 11
        assert {"quality_score", "clarity", "consistency", "relevance", "safety", "confidence", "flags", "unavailable"} <= line.keys()
        assert line.keys() - {"job", "feature"} <= FeatureOutcome.model_fields.keys()
        assert line["subject"]["feature_key"] == str(line["feature"]["feature_id"])


def test_with_minilm_each_line_is_scored_by_the_formula_that_has_its_signal_in_any_number_of_processes(tmp_path: Path) -> None:
    given = lines(*(pair(number) for number in range(12)))
    _, static = run(tmp_path, given)
    code, scored = run(tmp_path, given, "--minilm")
    assert code == 0
    assert all("minilm_z" not in line["accuracy"]["signals"] for line in static)
    for line in scored:
        accuracy = line["accuracy"]
        own = {name: value for name, value in accuracy["signals"].items() if "." not in name}
        assert own.keys() == {"bm25_z", "static_z", "minilm_z"}
        assert accuracy["p"] == pytest.approx(sigmoid(logit_of(own, accuracy["n"])), abs=1e-9)
    assert [line["accuracy"]["p"] for line in scored] != [line["accuracy"]["p"] for line in static]
    assert run(tmp_path, given, "--minilm", "--workers", "2")[1] == scored


def test_a_line_that_cannot_be_scored_says_why_and_the_others_are_scored_as_if_it_were_not_there(tmp_path: Path) -> None:
    good = lines(*(pair(number) for number in range(12)))
    bad = [b"nonsense", b"", b"[1]", b'{"job": "find_a"}', b'{"job": "find_a", "feature": {"feature_id": NaN}, "explanation": "x"}', b"\xff\xfe"]
    mixed = [line for place, line in enumerate(good) for line in ([bad[place // 2], line] if place % 2 else [line])]
    code, scored = run(tmp_path, mixed)
    assert code == 1
    assert len(scored) == len(mixed)
    wrong = [place for place, line in enumerate(scored) if "error" in line]
    assert wrong == [place for place, line in enumerate(mixed) if line in bad]
    assert all(scored[place]["error"].startswith(f"line {place + 1}: $") for place in wrong)
    assert scored[wrong[0]]["line"] == "nonsense"
    assert scored[wrong[3]]["job"] == "find_a"
    assert [line for line in scored if "error" not in line] == run(tmp_path, good)[1]


def test_a_feature_whose_explanation_is_missing_still_contrasts_with_the_others(tmp_path: Path) -> None:
    whole = lines(*(pair(number) for number in range(12)))
    unsaid = json.dumps({name: value for name, value in pair(11).items() if name != "explanation"}).encode()
    _, complete = run(tmp_path, whole)
    code, mended_later = run(tmp_path, [*whole[:11], unsaid])
    assert code == 1
    assert mended_later[:11] == complete[:11]


def test_jobs_may_be_interleaved_and_a_feature_counts_once_with_all_its_explanations(tmp_path: Path) -> None:
    one = [pair(number, "find_a") for number in range(12)]
    other = [pair(number, "find_b", "keys of pianos") for number in range(10)]
    again = [pair(3, "find_a", "animals"), pair(3, "find_a", "violins hid")]
    _, apart = run(tmp_path, lines(*one, *again))
    _, apart_other = run(tmp_path, lines(*other))
    mixed = [line for place in range(12) for line in (one[place], *other[place : place + 1])]
    _, together = run(tmp_path, lines(*mixed, *again))
    assert [line for line in together if line["job"] == "find_a"] == apart
    assert [line for line in together if line["job"] == "find_b"] == apart_other
    assert {line["background_features"] for line in apart} == {11}


def test_a_small_job_is_scored_against_the_general_background(tmp_path: Path) -> None:
    _, scored = run(tmp_path, lines(*(pair(number) for number in range(8))))
    assert all("no_contrast" in line["flags"] for line in scored)


def test_what_a_line_holds_stays_as_it_was_written_to_the_last_digit(tmp_path: Path) -> None:
    mine = b'"mine": 123456789012345678901234567890, "x": 1.50, "deep": ' + b"[" * 500 + b"]" * 500
    line = lines(pair(1))[0][:-1] + b", " + mine + b" } \r"
    run(tmp_path, [line])
    written = (tmp_path / "scores.jsonl").read_bytes()
    assert written.startswith(line.strip()[:-1].rstrip() + b',"subject":{')


def test_scoring_scored_lines_again_replaces_their_scores_and_errors(tmp_path: Path) -> None:
    given = [*lines(*(pair(number) for number in range(10))), b'{"job": "find_a", "note": 1}']
    _, once = run(tmp_path, given)
    stale = [orjson.dumps({**line, "quality_score": 2, "error": "old"}) for line in once]
    code, again = run(tmp_path, stale)
    assert code == 1
    assert again == once


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    given = [*lines(*(pair(number, f"find_{number % 3}") for number in range(150))), b"nonsense"]
    assert run(tmp_path, given, "--workers", "2") == run(tmp_path, given, "--workers", "1")


def test_a_line_that_makes_the_validator_fail_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = score_lines.score

    def failing(found: Any, *rest: Any) -> FeatureOutcome:
        if found.feature_key == "4":
            raise ZeroDivisionError("a fault")
        return real(found, *rest)

    monkeypatch.setattr(score_lines, "score", failing)
    code, scored = run(tmp_path, lines(*(pair(number) for number in range(9))))
    assert code == 1
    assert [place for place, line in enumerate(scored) if "error" in line] == [4]
    assert "ZeroDivisionError: a fault" in scored[4]["error"]


def test_a_line_beyond_any_use_is_not_read_into_memory_and_the_next_line_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_lines, "LINE_BYTES", 10)
    found = list(score_lines.lines_of(io.BytesIO(b"\xef\xbb\xbf{}\r\n" + b"a" * 100 + b"\nbb\n" + b"c" * 10 + b"\nlast")))
    assert found[0] == b"{}"
    assert 10 < len(found[1]) <= 12
    assert found[2:] == [b"bb", b"c" * 10, b"last"]


def test_what_is_piped_in_is_read_twice_and_what_goes_to_a_pipe_is_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = lines(*(pair(number) for number in range(9)))
    _, expected = run(tmp_path, given)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError("a pipe cannot be rewound")

    class Stream:
        def __init__(self, buffer: io.BytesIO) -> None:
            self.buffer = buffer

        def isatty(self) -> bool:
            return False

    result, written = Stream(Pipe(b"\n".join(given))), Stream(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", result)
    monkeypatch.setattr(sys, "stdout", written)
    from mistudio_explain.cli.score import STDIO, score_pairs

    code = score_pairs(STDIO, out=STDIO, minilm=False, evidence=False, workers=None, config=None, profile=None, as_json=False)
    assert code == 0
    assert [orjson.loads(line) for line in written.buffer.getvalue().splitlines()] == expected


def test_the_old_scores_stay_until_the_new_ones_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, lines(pair(1)))
    before = (tmp_path / "scores.jsonl").read_bytes()

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_lines, "scored", interrupted)
    CliRunner().invoke(app, ["score", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "scores.jsonl")])
    assert (tmp_path / "scores.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "scores.jsonl"]


def test_the_scored_texts_are_written_on_demand_only(tmp_path: Path) -> None:
    assert "evidence" not in run(tmp_path, lines(pair(1)))[1][0]
    with_evidence = run(tmp_path, lines(pair(1)), "--evidence")[1][0]
    assert len(with_evidence["evidence"]["seen"]) + len(with_evidence["evidence"]["held_out"]) == 10


def test_a_summary_for_scripts_counts_verdicts_and_errors(tmp_path: Path) -> None:
    source, out = tmp_path / "pairs.jsonl", tmp_path / "o.jsonl"
    source.write_bytes(b"\n".join([*lines(*(pair(number) for number in range(9)), pair(1, said="Unclear.")), b"nonsense"]))
    told = json.loads(CliRunner().invoke(app, ["score", str(source), "--out", str(out), "--json"]).stdout)
    verdicts = Counter(orjson.loads(line).get("pattern_verification", "errors") for line in out.read_bytes().splitlines())
    assert verdicts["unverifiable"] == verdicts["errors"] == 1
    assert told == {"lines": 11, "jobs": 1, "out": str(out), **{name: verdicts[name] for name in ("confirmed", "partial", "contradicted", *verdicts)}}
