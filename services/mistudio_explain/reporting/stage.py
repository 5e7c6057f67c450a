"""Reporting: writes a job's outcomes as files."""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Artefact, JobReport
from mistudio_explain.reporting.atomic import PendingFiles
from mistudio_explain.reporting.json_files import write_explanation_results, write_feature_explanations
from mistudio_explain.reporting.survey import survey
from mistudio_explain.reporting.table import write_table

FEATURE_EXPLANATIONS = "feature_explanations.json"
EXPLANATION_RESULTS = "explanation_results.json"
PAGE = "explanation_report.html"
TABLE = "explanations.csv"


def write_reports(report: JobReport, outcomes: Callable[[], Iterable[FeatureOutcome]], directory: Path) -> list[Artefact]:
    """Write all four files of a job into `directory`, which is made when it is not there.

    `outcomes` is called once for the figures and once for each file, and must give the same outcomes, sorted by
    feature, each time; they are read as a stream. The files depend on nothing but the report and the outcomes, so
    the same ones give the same bytes. The files of an earlier call are replaced together at the end; when anything
    fails, OSError for a full disk for instance, they stay as they were.
    """
    from mistudio_explain.reporting.page import write_page  # here, because an aggregator counts long before it writes its first page

    figures = survey(outcomes())
    with PendingFiles(directory) as files:
        write_feature_explanations(files.create(FEATURE_EXPLANATIONS), report, figures, outcomes())
        write_explanation_results(files.create(EXPLANATION_RESULTS), report, figures, outcomes())
        write_page(files.create(PAGE), report, figures, outcomes())
        write_table(files.create(TABLE), outcomes())
        return files.commit()


def report_directory(root: Path, explain_job_id: str) -> Path:
    """Name the folder of a job's files under `root`: the job id itself wherever that is a plain folder name.

    An id may hold `/`, `..` and blanks; then these become `-`, and 8 hex digits of the id's sha256 keep two jobs
    apart, so that no id leads out of `root`.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", explain_job_id).lstrip(".")
    if plain == explain_job_id:
        return root / explain_job_id
    return root / f"{plain}-{hashlib.sha256(explain_job_id.encode()).hexdigest()[:8]}"
