"""`archive`: what the archive index says of jobs' files, and whether the files are still those."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.reporting.archive import Entry, entries
from mistudio_explain.reporting.shelf import Shelf, shelf_of
from mistudio_explain.reporting.stage import volumes_of_before
from mistudio_explain.reporting.wording import timestamp


def show_archive(job: str | None, *, verify: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the entries, oldest first; with `verify` also what is wrong with files, and then end with 1 when something is."""
    settings = prepare(config=config, profile=profile, quiet=True)
    shelf = shelf_of(settings.reports)
    found = entries(shelf, job)
    wrong = list(_differences(shelf, found)) if verify else []
    if as_json:
        print_json({"entries": [entry.model_dump(mode="json") for entry in found], "differences": wrong if verify else None})
        return 1 if wrong else 0
    if not found:
        console().print(f"{settings.reports.bucket_url or settings.reports.directory}: nothing is archived{f' of job {job!r}' if job else ''}")
        return 0
    console().print(table(None, ("last heard of", "job", "revision", "status", "files", "MB", "kept until"), map(_row, found)))
    for each in wrong:
        console().print(f"{each['job']}: {each['name']} {each['what']}")
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


def _differences(shelf: Shelf, found: Iterable[Entry]) -> Iterator[dict[str, str]]:
    """Files that are not as they were written last."""
    newest: dict[str, dict[str, str]] = {}
    for entry in found:
        if entry.kind == "removed":
            newest[entry.explain_job_id] = {}
            continue
        files = newest.setdefault(entry.explain_job_id, {})
        for name in volumes_of_before(list(files), entry.artefacts):
            del files[name]
        files.update({artefact.uri.rpartition("/")[2]: artefact.sha256 for artefact in entry.artefacts})
    for job, files in newest.items():
        there = {file.name: file for file in shelf.files(job)}
        for name, sha256 in files.items():
            if name not in there:
                yield {"job": job, "name": name, "what": "is gone"}
            elif shelf.hash(job, there[name]) != sha256:
                yield {"job": job, "name": name, "what": "is not what was written"}
