"""`archive`: what the archive index says of jobs' files, and whether the files are still those."""

from dataclasses import asdict
from pathlib import Path

from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.reporting.archive import Entry, differences, entries
from mistudio_explain.reporting.shelf import shelf_of
from mistudio_explain.reporting.wording import timestamp


def show_archive(job: str | None, *, verify: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the entries, oldest first; with `verify` also what is wrong with files, and then end with 1 when something is."""
    settings = prepare(config=config, profile=profile, quiet=True)
    shelf = shelf_of(settings.reports)
    found = entries(shelf, job)
    wrong = differences(shelf, found) if verify else []
    if as_json:
        print_json({"entries": [entry.model_dump(mode="json") for entry in found], "differences": [asdict(each) for each in wrong] if verify else None})
        return 1 if wrong else 0
    if not found:
        console().print(f"{settings.reports.bucket_url or settings.reports.directory}: nothing is archived{f' of job {job!r}' if job else ''}")
        return 0
    columns = ("last heard of", "job", "revision", "status", "files", "MB", "kept until")
    console().print(table(None, columns, map(_row, found), wrap={"job": None, "files": None}))
    for each in wrong:
        console().print(f"{each.job}: {each.name} {each.what}")
    if verify and not wrong:
        console().print("every file is as it was written")
    return 1 if wrong else 0


def _row(entry: Entry) -> tuple[str, ...]:
    names = ", ".join(artefact.uri.rpartition("/")[2] for artefact in entry.artefacts) or "all removed"
    return (
        timestamp(entry.at_ms)[:19],
        entry.explain_job_id,
        str(entry.revision),
        entry.status,
        names,
        f"{sum(artefact.size for artefact in entry.artefacts) / 1e6:.1f}",
        timestamp(entry.keep_until_ms)[:10] if entry.keep_until_ms is not None else "-",
    )
