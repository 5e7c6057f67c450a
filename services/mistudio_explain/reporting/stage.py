"""Reporting: writes a job's outcomes as files."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Artefact, JobReport
from mistudio_explain.reporting.atomic import PendingFiles
from mistudio_explain.reporting.fan import Taker, hand_out
from mistudio_explain.reporting.formats import AT_THE_END, Format, check
from mistudio_explain.reporting.json_files import write_explanation_results, write_feature_explanations, write_lines
from mistudio_explain.reporting.survey import Survey, survey
from mistudio_explain.reporting.table import write_table
from mistudio_explain.reporting.text import write_text

FEATURE_EXPLANATIONS = "feature_explanations.json"
EXPLANATION_RESULTS = "explanation_results.json"
PAGE = "explanation_report.html"
TABLE = "explanations.csv"
TEXT = "explanation_report.txt"
LINES = "explanations.jsonl"
COLUMNS = "explanations.parquet"
PRINT = "explanation_report.pdf"
FURTHER_VOLUME = "explanation_report.volume-{}.pdf"
"""The files of a PDF report after the first one, from volume 2 on."""

Outcomes = Callable[[], Iterable[FeatureOutcome]]


def write_reports(
    report: JobReport, outcomes: Outcomes, directory: Path, formats: Sequence[Format] = AT_THE_END, *, begun: Callable[[str], None] = lambda _: None
) -> list[Artefact]:
    """Write the files of a job into `directory`, which is made when it is not there, and say what they are.

    `outcomes` is called once for the figures and once for the files, and must give the same outcomes, sorted by
    feature, each time; they are read as a stream. The files depend on nothing but the report, the outcomes and, the
    PDF's, the fonts of this machine, so the same ones give the same bytes. The files of an earlier call are replaced
    together at the end; when anything fails, OSError for a full disk for instance, they stay as they were. `begun` is
    told each file's name. Raises BadSettings for a format that this installation cannot write, CannotTypeset for the PDF.
    """
    check(formats)
    figures = survey(outcomes())
    with PendingFiles(directory, begun) as files:
        hand_out(outcomes(), [taker for each in Format if each in formats for taker in _TAKERS[each](files, report, figures)])
        artefacts = files.commit()
    for name in volumes_of_before([path.name for path in directory.iterdir()], artefacts):
        (directory / name).unlink(missing_ok=True)
    return artefacts


def report_directory(root: Path, explain_job_id: str) -> Path:
    """Name the folder of a job's files under `root`: the job id itself wherever that is a plain folder name.

    An id may hold `/`, `..` and blanks; then these become `-`, and 8 hex digits of the id's sha256 keep two jobs
    apart, so that no id leads out of `root`.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", explain_job_id).lstrip(".")
    if plain == explain_job_id:
        return root / explain_job_id
    return root / f"{plain}-{hashlib.sha256(explain_job_id.encode()).hexdigest()[:8]}"


def volumes_of_before(there: Iterable[str], written: Iterable[Artefact]) -> list[str]:
    """Of the names that are there, the volumes of an earlier PDF report that a new one leaves over: a job that became smaller has fewer."""
    names = {artefact.uri.rpartition("/")[2] for artefact in written}
    first, last = FURTHER_VOLUME.split("{}")
    return [name for name in there if PRINT in names and name not in names and name.startswith(first) and name.endswith(last)]


def _json(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:
    yield partial(write_feature_explanations, files.create(FEATURE_EXPLANATIONS), report, figures)
    yield partial(write_explanation_results, files.create(EXPLANATION_RESULTS), report, figures)


def _html(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:
    from mistudio_explain.reporting.page import write_page  # here, because an aggregator counts long before it writes its first page

    yield partial(write_page, files.create(PAGE), report, figures)


def _csv(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:  # noqa: ARG001
    yield partial(write_table, files.create(TABLE))


def _txt(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:
    yield partial(write_text, files.create(TEXT), report, figures)


def _jsonl(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:  # noqa: ARG001
    yield partial(write_lines, files.create(LINES))


def _parquet(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:  # noqa: ARG001
    from mistudio_explain.reporting.parquet import write_parquet  # here, because it needs an extra

    yield partial(write_parquet, files.create(COLUMNS), report)


def _pdf(files: PendingFiles, report: JobReport, figures: Survey) -> Iterator[Taker]:
    from mistudio_explain.reporting.pdf import volumes  # here, as the page

    def write(outcomes: Iterable[FeatureOutcome]) -> None:
        for number, pdf in enumerate(volumes(report, figures, outcomes), 1):
            with pdf.open("rb") as made:
                shutil.copyfileobj(made, files.create(PRINT if number == 1 else FURTHER_VOLUME.format(number)))

    yield write


_TAKERS: Mapping[Format, Callable[[PendingFiles, JobReport, Survey], Iterator[Taker]]] = {
    Format.JSON: _json,
    Format.HTML: _html,
    Format.CSV: _csv,
    Format.TXT: _txt,
    Format.JSONL: _jsonl,
    Format.PARQUET: _parquet,
    Format.PDF: _pdf,
}
