"""What the text, JSONL, Parquet and PDF files hold."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pypdfium2
import pytest
from pyarrow import parquet
from reporting_samples import HOSTILE, concerning, explained, failed, hostile, job_report, skipped

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import JobStatus
from mistudio_explain.reporting import pdf
from mistudio_explain.reporting.formats import CannotTypeset, Format
from mistudio_explain.reporting.stage import COLUMNS, LINES, PRINT, TEXT, write_reports
from mistudio_explain.reporting.table import COLUMNS as CSV_COLUMNS
from mistudio_explain.reporting.typeset import font_warnings


def written(folder: Path, outcomes: Sequence[FeatureOutcome], kind: Format, **changes: object) -> list[str]:
    artefacts = write_reports(job_report(**changes), lambda: outcomes, folder, [kind])
    return [artefact.uri.rpartition("/")[2] for artefact in artefacts]


def texts_of(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as document:
        return [page.get_textpage().get_text_range().replace("\u200b", "") for page in document]


def test_each_line_of_the_jsonl_file_is_a_feature_with_its_job_and_its_fate(tmp_path: Path) -> None:
    written(tmp_path, [explained("1"), skipped("2"), failed("3"), *hostile()], Format.JSONL)
    lines = [json.loads(line) for line in (tmp_path / LINES).read_bytes().splitlines()]
    assert [(line["explain_job_id"], line["feature_id"], line["outcome"]) for line in lines[:3]] == [
        ("explain_1", 1, "explained"),
        ("explain_1", 2, "skipped"),
        ("explain_1", 3, "failed"),
    ]
    assert [line["explanation"] for line in lines[3::2]] == list(HOSTILE)


def test_parquet_has_the_columns_of_the_csv_file_with_types_and_meanings_and_every_text_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, [explained("1", quality_score=None), skipped("2"), *hostile()], Format.PARQUET)
    table = parquet.read_table(tmp_path / COLUMNS)
    assert table.column_names == [*(column.name for column in CSV_COLUMNS), "texts"]
    assert all(field.metadata[b"meaning"] for field in table.schema)
    assert (table.schema.field("accuracy").type, table.schema.field("tokens_in").type) == (pyarrow.float64(), pyarrow.int64())
    rows = table.to_pylist()
    assert (rows[0]["quality"], rows[0]["accuracy"], rows[0]["factual_coherence"]) == (None, 0.7, None)
    assert rows[0]["texts"][0] == {"text": '{"type": "object"}', "activation": 2.0, "context": None, "held_out": False}
    assert (rows[1]["outcome"], rows[1]["texts"]) == ("skipped", [])
    assert [row["explanation"] for row in rows[2::2]] == list(HOSTILE)
    assert [row["keywords"] for row in rows[2::2]] == [[text] for text in HOSTILE]


def test_the_text_report_holds_every_feature_and_no_control_character(tmp_path: Path) -> None:
    written(tmp_path, [explained("1"), concerning("2"), skipped("3"), failed("4"), *hostile()], Format.TXT)
    text = (tmp_path / TEXT).read_bytes().decode()
    assert not {character for character in text if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or 0x202A <= ord(character) <= 0x202E} - {"\n"}
    for said in ("JSON schema validation", "[confirmed]", "2: concerning: weapons", "coherence 0.10 is below 0.4", "the answer was cut three times"):
        assert said in text
    assert all(f"\n{1000 + i}  [confirmed]" in text for i in range(len(HOSTILE)))


def test_a_pdf_tells_of_every_feature_and_takes_hostile_texts_for_texts(tmp_path: Path) -> None:
    assert written(tmp_path, [explained("1"), concerning("2"), skipped("3"), failed("4"), *hostile()], Format.PDF) == [PRINT]
    text = " ".join(" ".join(texts_of(tmp_path / PRINT)).split())
    for said in ("What features of gpt2 detect", "Executive Summary", "Safety Assessment", "weapons", "Technical Details", "the answer was cut three times"):
        assert said in text
    for hostile_text in ("</script><script>alert(1)</script>", '=HYPERLINK("http://evil.example")', "{{ 7*7 }}{% raw %}&amp;<!--", "control [U+0000][U+0007]"):
        assert hostile_text in text


@pytest.mark.parametrize("markup", ['#read("/etc/passwd")', "*bold* _it_ $x^2$ @preview/x:1.0.0 = heading", "] #panic()", "\\u{41} `raw` <label> @ref"])
def test_markup_of_the_typesetter_in_a_text_stays_as_it_is(tmp_path: Path, markup: str) -> None:
    written(tmp_path, [explained("1", explanation=markup, answer=None)], Format.PDF)
    assert markup in " ".join(" ".join(texts_of(tmp_path / PRINT)).split())


def test_unbroken_text_stays_on_the_page(tmp_path: Path) -> None:
    written(tmp_path, [explained("1", explanation="W" * 400, answer=None, review_reason="é" * 400)], Format.PDF)
    with pypdfium2.PdfDocument(tmp_path / PRINT) as document:
        for page in document:
            right = page.get_width() - 36
            words = page.get_textpage()
            assert all(words.get_charbox(index)[2] <= right for index in range(words.count_chars()))


def test_a_large_job_has_volumes_and_those_of_before_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "FEATURES_A_VOLUME", 3)
    assert written(tmp_path, [explained(str(i)) for i in range(7)], Format.PDF) == [
        PRINT, "explanation_report.volume-2.pdf", "explanation_report.volume-3.pdf", "explanation_report.volume-4.pdf",
    ]  # fmt: skip
    keys = ["".join(texts_of(tmp_path / f"explanation_report.volume-{number}.pdf")).count("· feature") for number in (2, 3, 4)]
    assert keys == [3, 3, 1]
    assert "features 4 to 6 by category" in " ".join(texts_of(tmp_path / PRINT))
    written(tmp_path, [explained(str(i)) for i in range(4)], Format.PDF)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PRINT, "explanation_report.volume-2.pdf", "explanation_report.volume-3.pdf"]


def test_a_typesetter_that_runs_out_of_memory_ends_with_an_error_and_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, [explained("1")], Format.PDF)
    before = (tmp_path / PRINT).read_bytes()
    monkeypatch.setattr(pdf, "MOST_MEGABYTES", 60)
    with pytest.raises(CannotTypeset, match=r"volume 1 of 1 .* within 60 MB"):
        written(tmp_path, [explained("2")], Format.PDF)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(PRINT, before)]


def test_parquet_without_its_extra_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistudio_explain.reporting.formats.find_spec", lambda _: None)
    with pytest.raises(BadSettings, match=r"pip install 'mistudio-explain\[parquet\]'"):
        written(tmp_path / "new", [explained("1")], Format.PARQUET)
    assert not (tmp_path / "new").exists()


def test_what_the_machine_s_fonts_lack_is_said() -> None:
    assert font_warnings([]) == []
    (warning,) = font_warnings(["字", "あ"])
    assert "lack 2 of the characters in this volume (CJK, HIRAGANA)" in warning


@pytest.mark.parametrize("job", [[], [skipped("1")], [failed(None)]], ids=["nothing", "only skipped", "an unreadable record"])
def test_a_job_without_explanations_has_every_file(tmp_path: Path, job: list[FeatureOutcome]) -> None:
    artefacts = write_reports(job_report(status=JobStatus.INCOMPLETE, missing=["5"]), lambda: job, tmp_path, list(Format))
    assert len(artefacts) == 8
    assert {artefact.uri.rpartition("/")[2] for artefact in artefacts if artefact.size == 0} <= {LINES}


_TWICE = """
import sys
from pathlib import Path
from reporting_samples import concerning, explained, failed, hostile, job_report, skipped
from mistudio_explain.reporting.formats import Format
from mistudio_explain.reporting.stage import write_reports
outcomes = [explained("1"), skipped("2"), failed("3"), concerning("4"), *hostile()]
print(*(artefact.sha256 for artefact in write_reports(job_report(), lambda: outcomes, Path(sys.argv[1]), list(Format))))
"""


def test_two_processes_write_the_same_bytes_in_every_format(tmp_path: Path) -> None:
    def hashes(seed: str) -> str:
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "TZ": "UTC" if seed == "1" else "Asia/Tokyo", "LC_ALL": "C"}
        run = [sys.executable, "-c", _TWICE, str(tmp_path / seed)]
        return subprocess.run(run, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout

    first = hashes("1")
    assert len(first.split()) == 8
    assert hashes("2") == first
