"""`report`: writes a job's files from the store."""

import asyncio
import time
from pathlib import Path

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.cli.show import console, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.cli.summary import counts
from mistudio_explain.errors import BadInput
from mistudio_explain.events.job import JobReport
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import reading


def write_report(job: str, *, out: Path | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Write the files and say where they are."""
    settings = prepare(config=config, profile=profile, quiet=True)
    report = asyncio.run(asyncio.to_thread(_write, settings, job, out or settings.reports.directory))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        console().print(counts(report))
        for artefact in report.artefacts:
            console().print(artefact.uri)
    return 0


def _write(settings: Settings, job: str, directory: Path) -> JobReport:
    with reading(settings.store) as store:
        reports = JobReports(lambda: store, settings, directory=directory)
        report = reports.numbers(job, now_ms=int(time.time() * 1000))
        if report is None:
            known = ", ".join(store.jobs(20)) or "none"
            raise BadInput(f"the store {settings.store.url} has no job {job!r}; it has {known}")
        return reports.with_files(report)
