"""`report`: writes a job's files from the store."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.cli.scored import job_of, untimed
from mistudio_explain.cli.show import console, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.cli.summary import counts
from mistudio_explain.errors import BadInput
from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.formats import Format
from mistudio_explain.reporting.shelf import shelf_of
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import reading


def write_report(job: str, *, formats: Sequence[str], out: Path | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Write the files and say where they are."""
    wanted = formats_of(formats)
    settings = prepare(config=config, profile=profile, quiet=True)
    directory = out or settings.reports.directory
    shelf_of(settings.reports.model_copy(update={"directory": directory})).check()
    with _progress(as_json) as begun, job_of(job, settings) as (stored, meant):
        report = _write(stored, meant, directory, wanted, begun, is_given=stored is not settings)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        console().print(counts(report))
        for artefact in report.artefacts:
            console().print(artefact.uri)
    return 0


def formats_of(said: Sequence[str]) -> tuple[Format, ...]:
    """The formats that options name, in the order of `Format`; none: those of the settings. Raises BadInput for an unknown one."""
    names = {name.strip().lower() for each in said for name in each.split(",")}
    if "all" in names:
        return tuple(Format)
    if unknown := sorted(names - set(Format)):
        raise BadInput(f"there is no format {', '.join(map(repr, unknown))}; there are {', '.join(Format)} and all")
    return tuple(each for each in Format if each in names)


def _write(settings: Settings, job: str, directory: Path, formats: Sequence[Format], begun: Callable[[str], None], *, is_given: bool) -> JobReport:
    with reading(settings.store) as store, closing(JobReports(lambda: store, settings, directory=directory)) as reports:
        report = reports.numbers(job, now_ms=int(time.time() * 1000))
        if report is None:
            known = ", ".join(store.jobs(20)) or "none"
            raise BadInput(f"the store {settings.store.url} has no job {job!r}; it has {known}")
        try:
            return reports.with_files(untimed(report) if is_given else report, formats, begun=begun)
        except OSError as error:
            raise BadInput(f"{directory}: the files cannot be written there ({error.strerror or error}); those of before are as they were") from error


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Shows which file is being written: on a terminal in one line, else, unless JSON is wanted, in a line each."""
    err = console(stderr=True)
    if as_json or not sys.stderr.isatty():
        yield lambda name: None if as_json else err.print(f"writing {name}")
        return
    with err.status("reading the store") as status:
        yield lambda name: status.update(f"writing {name}")
