import csv
import re
import time
from pathlib import Path

import pytest
from reporting_samples import HOSTILE, explained, failed, hostile, job_report, skipped

from mistudio_explain.events.explanation import FeatureOutcome, Tier
from mistudio_explain.reporting.stage import PAGE, TABLE, write_reports
from mistudio_explain.reporting.table import CELL_CHARACTERS, COLUMNS, cell
from mistudio_explain.reporting.wording import coherence_told


def rows(tmp_path: Path, outcomes: list[FeatureOutcome]) -> list[dict[str, str]]:
    write_reports(job_report(), lambda: outcomes, tmp_path)
    with (tmp_path / TABLE).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_every_outcome_has_a_row_under_the_documented_columns(tmp_path: Path) -> None:
    table = rows(tmp_path, [explained("1"), skipped("2"), failed("3")])
    assert [(r["feature_id"], r["outcome"], r["reason"]) for r in table] == [
        ("1", "explained", ""),
        ("2", "skipped", "coherence 0.10 is below 0.4"),
        ("3", "failed", "the answer was cut three times"),
    ]
    assert list(table[0]) == [column.name for column in COLUMNS]
    assert all(column.meaning for column in COLUMNS)


def test_spreadsheets_see_utf_8_by_its_byte_order_mark(tmp_path: Path) -> None:
    rows(tmp_path, [explained()])
    assert (tmp_path / TABLE).read_bytes().startswith(b"\xef\xbb\xbffeature_key,")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(1)", "\tplain", "\rplain", "\nplain", "  =1", "＝1+1", "\ufeff=1", "\u200b=1", '"=1"'])
def test_a_text_that_could_be_a_formula_becomes_text(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("separator", [";", "\t", "\r", "\n", "\r\n", "; ", ';"'])
def test_a_formula_behind_what_another_program_takes_for_a_separator_becomes_text(separator: str) -> None:
    written = cell(f"a{separator}=1+1")
    assert isinstance(written, str)
    assert not re.search(r"[;\t\r\n][\s\"]*=", written)
    assert written.replace("'", "") == f"a{separator}=1+1"


@pytest.mark.parametrize("text", ["a - b; c = d", "x == y", "mail@example.org", "one\ntwo", "a;b", "–5"])
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert cell(text) == text


def test_a_text_of_nothing_but_separators_takes_no_longer_than_its_length() -> None:
    started = time.perf_counter()
    for text in (";", "\n", " ", '"', "; "):
        cell(text * 100_000)
    assert time.perf_counter() - started < 2


def test_no_cell_of_a_hostile_job_is_taken_for_a_formula(tmp_path: Path) -> None:
    table = rows(tmp_path, hostile())
    assert len(table) == 2 * len(HOSTILE)
    numbers = {"quality", "accuracy"}
    assert not [value for row in table for name, value in row.items() if name not in numbers and value.lstrip()[:1] in tuple("=+-@") and value]


def test_numbers_are_plain_numbers_and_negative_ones_stay_so() -> None:
    assert (cell(-0.5), cell(3), cell(None)) == (-0.5, 3, None)


def test_line_breaks_and_quotes_survive_inside_a_cell(tmp_path: Path) -> None:
    text = 'one\ntwo\r\nthree, "four"'
    assert rows(tmp_path, [explained(explanation=text)])[0]["explanation"] == text


def test_control_characters_are_replaced_since_spreadsheets_refuse_them() -> None:
    assert cell("a\x00b\x1bc\x7f") == "a\ufffdb\ufffdc\ufffd"


def test_a_cell_is_cut_below_what_excel_holds() -> None:
    cut = cell("x" * 50_000)
    assert isinstance(cut, str)
    assert CELL_CHARACTERS < len(cut) <= 32_767
    assert cut.endswith(" …")


def test_a_score_that_could_not_be_computed_is_an_empty_cell_and_its_reason_is_told(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, [explained(quality_score=None, relevance=None, unavailable={"relevance": "no policy"})])
    assert (row["quality"], row["relevance"], row["not_computed"]) == ("", "", "relevance: no policy")


def test_what_was_computed_because_the_source_lacks_it_is_named_in_the_table_and_said_beside_the_coherence(tmp_path: Path) -> None:
    computed = explained("1", subject_changes={"computed": ["coherence_score"], "tier": Tier.UNKNOWN})
    assert [row["computed"] for row in rows(tmp_path, [computed, explained("2")])] == ["coherence_score", ""]
    assert [coherence_told(each.subject) for each in (computed, explained("2"))] == ["0.10 (computed, no tier)", "0.10 (poor)"]
    page = (tmp_path / PAGE).read_text()
    assert "0.10 (computed, no tier)" in page
    assert "0.10 (poor)" in page
