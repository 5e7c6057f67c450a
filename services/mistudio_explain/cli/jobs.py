"""`job list|show|delete` and `cancel`: what is known of jobs, and orders about them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mistudio_explain.cli.configured import reached, with_kafka, writing
from mistudio_explain.cli.known_jobs import find_jobs
from mistudio_explain.cli.letter_text import moment
from mistudio_explain.cli.show import console, fits, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.cli.summary import counts
from mistudio_explain.events.job import JobEvent, JobPart, JobReport
from mistudio_explain.events.topics import PROMPTS_PREFIX
from mistudio_explain.kafka.orders import KnownJob, cancellation, deletion, give_order, known_job, read_jobs
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings

_COLUMNS = ("job", "find job", "status", "explained", "skipped", "failed", "of", "last heard of (UTC)")


def list_jobs(find_job: str | None, limit: int | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the jobs, last heard of first."""
    settings = prepare(config=config, profile=profile, quiet=True)
    sources = asyncio.run(find_jobs(settings))
    found = [job for job in sources.jobs.values() if find_job in (None, job.find_job_id)]
    shown = found[:limit]
    if as_json:
        for job in shown:
            print_json(_json(job))
        return 0
    out = console()
    if shown:
        out.print(_job_list(shown, out))
    counted = "there are no jobs" if not found else f"{len(found)} job{'s' if len(found) > 1 else ''}"
    out.print(f"{counted}{f', {len(shown)} shown' if len(shown) < len(found) else ''}, as {sources.read_from} has them")
    return 0


def show_job(name: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show everything that is known of one job."""
    settings = prepare(config=config, profile=profile, quiet=True)
    jobs = asyncio.run(find_jobs(settings)).jobs
    job = known_job(jobs, name)
    siblings = [other.explain_job_id for other in jobs.values() if other is not job and job.find_job_id and other.find_job_id == job.find_job_id]
    if as_json:
        parts = {part.value: event.model_dump(mode="json", exclude_none=True) for part, event in job.parts.items()}
        report = job.report.model_dump(mode="json") if job.report else None
        print_json(_json(job) | {"report": report, "parts": parts, "jobs_of_the_same_find_job": siblings, "unreadable_parts": job.unreadable})
        return 0
    out = console()
    for line in _numbers(job):
        out.print(Text(plain(line)))
    if job.parts:
        columns = ("part", "revision", "when (UTC)", "what it says")
        out.print(table(None, columns, map(_part_row, job.parts.values()), wrap={"what it says": None}))
    for line in (*_lineage(job, siblings), *_files(job)):
        out.print(Text(plain(line)))
    return 0


def cancel_job(name: str, *, who: str | None, why: str | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Order that a job explains nothing more."""
    settings = with_kafka("cancel", config=config, profile=profile)
    event = asyncio.run(_cancel(settings, name, who, why))
    if as_json:
        print_json({"explain_job_id": name, "action": "cancel", "ordered": event is not None, "revision": event.revision if event else None})
    elif event is None:
        console().print(Text(plain(f"{name} was cancelled before; nothing was ordered")))
    else:
        said = "cancelled: what waits of it ends as skipped, and calls that run are cut off"
        console().print(Text(plain(f"{name} is {said}; `mistudio-explain watch {name}` shows its end")))
    return 0


def delete_job(name: str, *, yes: bool, who: str | None, why: str | None, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Order that a job is deleted; without `yes` only say what that removes, which ends with 2."""
    settings = with_kafka("job delete", config=config, profile=profile)
    if not yes:
        job = known_job(asyncio.run(find_jobs(settings)).jobs, name)
        ordered = False
    else:
        job, ordered = asyncio.run(_delete(settings, name, who, why))
    stays = _what_stays(job, settings)
    if as_json:
        print_json({"explain_job_id": name, "action": "delete", "ordered": ordered, "stays_until_ms": dict(stays)})
        return 0 if yes else 2
    out = console()
    if yes and not ordered:
        out.print(Text(plain(f"{name} {job.closed} before; nothing was ordered")))
        return 0
    verb = "The aggregator removes" if yes else "Deleting it removes"
    outcomes = f"{job.report.explained + job.report.skipped + job.report.failed} outcomes" if job.report else "outcomes"
    out.print(Text(plain(f"{name} of {job.find_job_id or 'an unknown find job'}")))
    out.print(
        f"{verb} its {outcomes}, report, reviews and parts (from Kafka's disks at the topics' next compaction), its dead letters, its rows and cached answers "
        "in the store, its files, and the find job's contrast sample if no other job needs it."
    )
    out.print("Copies of its records stay in topics that forget by age, until about:")
    out.print(table(None, ("topic", "until (UTC)"), ((topic, moment(ms)) for topic, ms in stays)))
    if yes:
        out.print(Text(plain(f"{name} is ordered to be deleted; `mistudio-explain job show {name}` says when it is")))
    else:
        out.print("Nothing was deleted; add --yes to do it.")
    return 0 if yes else 2


async def _cancel(settings: Settings, name: str, who: str | None, why: str | None) -> JobEvent | None:
    clients = await reached(settings)
    event = cancellation(known_job(await read_jobs(clients), name), who=who, why=why, now_ms=_now_ms())
    if event is not None:
        async with writing(settings, clients) as producer:
            await give_order(producer, event)
    return event


async def _delete(settings: Settings, name: str, who: str | None, why: str | None) -> tuple[KnownJob, bool]:
    job = known_job((await find_jobs(settings)).jobs, name)
    event = deletion(job, who=who, why=why, now_ms=_now_ms())
    if event is not None:
        async with writing(settings, await reached(settings)) as producer:
            await give_order(producer, event)
    return job, event is not None


def _what_stays(job: KnownJob, settings: Settings) -> list[tuple[str, int]]:
    """Topics with retention that may hold records of the job, and until when, milliseconds since 1970 UTC; longest first."""
    specs = (spec for spec in topic_specs(settings) if spec.cleanup == "delete")
    kept = {f"{PROMPTS_PREFIX}*" if spec.name.startswith(PROMPTS_PREFIX) else spec.name: spec.retention_ms or 0 for spec in specs}
    return sorted(((name, job.heard_ms + age) for name, age in kept.items()), key=lambda row: (-row[1], row[0]))


def _job_list(jobs: Sequence[KnownJob], out: Console) -> RenderableType:
    """A table where the terminal has room for it, else two lines for each job."""
    rows = [_row(job) for job in jobs]
    made = table(None, _COLUMNS, rows)
    if fits(out, made):
        return made
    return Group(*(Text("\n".join(_lines([plain(cell) for cell in row]))) for row in rows))


def _row(job: KnownJob) -> tuple[str, ...]:
    report = job.report
    numbers = ("-", "-", "-") if report is None else (str(report.explained), str(report.skipped), str(report.failed))
    of = "?" if report is None or report.expected is None else str(report.expected)
    return job.explain_job_id, job.find_job_id or "-", job.status, *numbers, of, moment(job.heard_ms)


def _lines(row: Sequence[str]) -> Iterator[str]:
    name, find_job, state, explained, skipped, failed, of, heard = row
    yield f"{name}  {state}"
    yield f"  of {find_job}, last heard of {heard}"
    if explained != "-":
        yield f"  {explained} explained, {skipped} skipped, {failed} failed of {of}"


def _json(job: KnownJob) -> dict[str, object]:
    report = job.report
    return {
        "explain_job_id": job.explain_job_id,
        "find_job_id": job.find_job_id,
        "tenant": job.tenant,
        "status": job.status,
        "revision": job.revision,
        "expected": report.expected if report else None,
        "explained": report.explained if report else None,
        "skipped": report.skipped if report else None,
        "failed": report.failed if report else None,
        "heard_ms": job.heard_ms,
    }


def _numbers(job: KnownJob) -> Iterator[str]:
    report = job.report
    standing = job.closed or f"is {job.status}"
    yield f"{job.explain_job_id} {standing}; revision {job.revision}, tenant {job.tenant}, last heard of {moment(job.heard_ms)} UTC"
    if report is None:
        return
    yield counts(report)
    if means := _means(report):
        yield f"on average {means}"
    wall = f"{report.wall_s:.1f} s" if report.wall_s is not None else "no time taken yet"
    estimated = f" (estimated {report.estimated_seconds:.0f} s)" if report.estimated_seconds is not None else ""
    yield f"{wall}{estimated}, {report.tokens_in} tokens in, {report.tokens_out} out, ${report.cost_usd:.2f}"
    if report.missing:
        yield f"without outcome: {', '.join(report.missing)}"
    if report.unreadable:
        yield f"dead letters that name no job, of which some may be its: {', '.join(report.unreadable)}"
    yield from report.notes
    if report.failed:
        yield f"why {report.failed} failed: `mistudio-explain dlq list --job {job.explain_job_id}`"


def _means(report: JobReport) -> str:
    averages = report.averages
    named = (("quality", averages.quality), ("accuracy", averages.accuracy), ("confidence", averages.confidence))
    said = [f"{name} {value:.2f}" for name, value in named if value is not None]
    return ", ".join([*said, *([f"{averages.latency_s:.1f} s a call"] if averages.latency_s is not None else [])])


def _part_row(event: JobEvent) -> tuple[str, ...]:
    part = event.part
    content = getattr(event, part.value).model_dump(mode="json", exclude_defaults=True)
    said = ", ".join(f"{name} {value}" for name, value in content.items())
    return part.value, str(event.revision), moment(event.at_ms), said or "-"


def _lineage(job: KnownJob, siblings: Sequence[str]) -> Iterator[str]:
    request = job.parts[JobPart.REQUEST].request if JobPart.REQUEST in job.parts else None
    replay = job.parts[JobPart.REPLAY].replay if JobPart.REPLAY in job.parts else None
    model = (request.target_model if request else None) or (job.report.target_model if job.report else None)
    trained = f", trained by {request.source_training_job}" if request and request.source_training_job else ""
    yield f"explains {job.find_job_id or 'an unknown find job'} of {model or 'an unknown model'}{trained}"
    if replay is not None:
        yield f"replays {replay.from_job}{f', as {replay.of} left it' if replay.of else ''}"
    if siblings:
        yield f"other jobs of that find job: {', '.join(siblings)}"


def _files(job: KnownJob) -> Iterator[str]:
    if job.report is not None:
        yield from (artefact.uri for artefact in job.report.artefacts)


def _now_ms() -> int:
    return int(time.time() * 1000)
