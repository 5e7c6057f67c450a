import gzip
import sys
from pathlib import Path

import pytest
from benchmarks.formats import make, run, unpacked

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.formats import lines
from mistudio_explain.intake.formats.choice import read_input


def test_an_export_of_hundreds_of_features_takes_less_memory_than_half_of_its_lines(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("peak memory is read from /proc")
    make(tmp_path / "export", 256)
    figures = run("ours", tmp_path / "export")
    assert figures["features"] == 256
    assert figures["bytes"] < unpacked(tmp_path / "export") / 2


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 1000)
    path = tmp_path / "features.jsonl"
    path.write_text('{"feature_id": 1, "activations": [' + " " * 100_000)
    with pytest.raises(BadInput, match=r"features\.jsonl: line 1: the line has more than 1000 bytes"):
        read_input(path, "jsonl")


@pytest.mark.parametrize(("bound", "name", "form"), [("UNPACKED_BYTES", "features.jsonl.gz", "jsonl"), ("WHOLE_BYTES", "batch-0.json.gz", "saedashboard")])
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, name: str, form: str) -> None:
    monkeypatch.setattr(lines, bound, 1 << 20)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"features": [' + b" \n" * (2 << 20)))
    assert path.stat().st_size < 10_000
    with pytest.raises(BadInput, match=rf"{path.name}: .*: the file holds more than {1 << 20} bytes, unpacked"):
        read_input(path, form)
