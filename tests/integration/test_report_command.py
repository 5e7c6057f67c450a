"""`report` and the aggregator's own writing, on a store of their own."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from integration.aggregating import JOB, explained, requested, sealed
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.codec import encode
from mistudio_explain.reporting import pdf
from mistudio_explain.reporting.formats import CannotTypeset, Format
from mistudio_explain.settings import ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store, reading

PROGRAM = Path(sys.executable).with_name("mistudio-explain")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a store with a job of two features, and of a folder for reports that wants a PDF at a job's end."""
    store = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    with open_store(store) as rows:
        rows.apply([Change(event, encode(event), "", 1_785_000_000_000) for event in (requested(), explained(1), explained(2), sealed(2))], {})
    return Settings(store=store, reports=ReportSettings(directory=tmp_path / "reports", formats=(Format.CSV, Format.PDF)))


def command(*arguments: str, settings: Settings) -> "subprocess.CompletedProcess[str]":
    environment = {"MISTUDIO_EXPLAIN_STORE__URL": settings.store.url, "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(settings.reports.directory)}
    return subprocess.run([str(PROGRAM), "report", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_pdf_that_cannot_be_set_keeps_no_job_s_end_back_but_fails_who_asked_for_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MOST_MEGABYTES", 60)
    with reading(settings.store) as rows, closing(JobReports(lambda: rows, settings)) as reports:
        report = reports.numbers(JOB, now_ms=1_785_000_000_000)
        assert report is not None
        told = reports.with_files(report)
        assert [artefact.uri.rpartition("/")[2] for artefact in told.artefacts] == ["explanations.csv"]
        assert "volume 1 of 1 of the PDF report could not be set" in told.notes[-1]
        with pytest.raises(CannotTypeset):
            reports.with_files(report, [Format.PDF])


def test_the_command_says_which_file_it_writes_and_where_each_is(settings: Settings) -> None:
    ended = command(JOB, "--format", "txt,jsonl", settings=settings)
    assert (ended.returncode, ended.stderr.splitlines()) == (0, ["writing explanation_report.txt", "writing explanations.jsonl"])
    assert [line.rpartition("/")[2] for line in ended.stdout.splitlines()[1:]] == ["explanation_report.txt", "explanations.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain_of_nobody"], "has no job 'explain_of_nobody'; it has explain_1"),
        ([JOB, "--out", "/proc/nowhere"], "reports cannot be written there"),
    ],
)
def test_what_cannot_be_written_ends_with_2_and_says_what_to_do(settings: Settings, arguments: list[str], said: str) -> None:
    ended = command(*arguments, settings=settings)
    assert ended.returncode == 2
    assert said in " ".join(ended.stderr.split())


def test_for_scripts_the_command_prints_json_alone(settings: Settings) -> None:
    ended = command(JOB, "--format", "csv", "--json", settings=settings)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["artefacts"][0]["uri"].endswith("/reports/explain_1/explanations.csv")
