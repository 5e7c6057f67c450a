"""What a replay is asked for, checked before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mistudio_explain.context.prompt import Templates
from mistudio_explain.errors import BadInput, either, option
from mistudio_explain.events.job import JobEvent, ReplayPart, RequestPart
from mistudio_explain.intake.stage import FindJob, read
from mistudio_explain.kafka.orders import KnownJob
from mistudio_explain.replay.moments import moment_ms
from mistudio_explain.replay.selection import Replayed, replayed_job, selection_of
from mistudio_explain.replay.stage import default_replay_id, knows_how_many, listed, needs_outcomes
from mistudio_explain.replay.where import parse
from mistudio_explain.settings import Settings


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What is asked for; each as the command's option of that name says."""

    from_job: str
    of: str | None = None
    where: str | None = None
    features: str | None = None
    route: str | None = None
    prompt: str | None = None
    since: str | None = None
    until: str | None = None
    failed_only: bool = False
    explain_poor: bool | None = None
    new_job: str | None = None
    from_file: Path | None = None
    target_model: str | None = None
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is written to the topic of jobs, and what is known of it before."""

    request: JobEvent
    replay: JobEvent
    replayed: Replayed | None
    """The job that is replayed; a file needs none."""
    features: frozenset[str]
    """Keys of those to be explained; more than will be when a period is asked for, which only Kafka can look up."""
    file: FindJob | None

    @property
    def job(self) -> str:
        """The new job."""
        return self.replay.explain_job_id


def plan(order: ReplayOrder, settings: Settings, now: datetime) -> Plan:
    """Check what can be checked before anything is written. Raises BadInput."""
    part = _part(order, now)
    if order.prompt is not None and order.prompt not in (known := Templates.load(settings.context.templates).known):
        raise BadInput(f"{option('--prompt')} {order.prompt!r}: there is no such template; there are {', '.join(sorted(known))}")
    replayed = None
    if order.from_file is None or order.of is not None or needs_outcomes(part):
        replayed = replayed_job(settings.store, order.from_job, order.of)
        part = part.model_copy(update={"of": replayed.state.explain_job_id})
    file = None if order.from_file is None else _file(order, order.from_file, settings, replayed)
    keys = _keys(part, settings, file, replayed)
    tenant = replayed.state.tenant if replayed else "default"
    job = order.new_job or default_replay_id(order.from_job, tenant, now)
    at_ms = int(now.timestamp() * 1000)
    asked = RequestPart(
        find_job_id=order.from_job,
        target_model=file.target_model if file else replayed.state.target_model if replayed else None,
        source_training_job=replayed.request.source_training_job if replayed and replayed.request else None,
        filters=_in_words(order),
        route=order.route,
        prompt_version=order.prompt,
        explain_poor=order.explain_poor,
        candidates=order.candidates,
        expected=len(keys) if knows_how_many(part) else None,
    )
    try:
        request = JobEvent(explain_job_id=job, tenant=tenant, at_ms=at_ms, request=asked)
    except ValueError as error:
        raise BadInput(f"{option('--as', 'new_job')} {job!r} is no job id: 1 to 200 characters of A-Z a-z 0-9 . _ : / @ - and space") from error
    return Plan(request, JobEvent(explain_job_id=job, tenant=tenant, at_ms=at_ms, replay=part), replayed, keys, file)


def check_unused(jobs: Mapping[str, KnownJob], made: Plan) -> None:
    """Raise BadInput when the new job's id is taken: an id names one job for ever, and what was replayed before must not be mixed with this."""
    if made.job in jobs:
        known = jobs[made.job]
        raise BadInput(
            f"the job {made.job} exists already (of {known.find_job_id or 'an unknown find job'}); name the replay otherwise with {option('--as', 'new_job')}"
        )
    find_job = made.replay.replay.from_job if made.replay.replay else ""
    if made.file is not None and all(job.find_job_id != find_job for job in jobs.values()):
        raise BadInput(f"{find_job} was never explained here, so there is nothing to replay; `mistudio-explain publish {made.file.path}` explains it")


def _part(order: ReplayOrder, now: datetime) -> ReplayPart:
    if order.where is not None:
        parse(order.where)
    if order.from_file is not None and (order.since or order.until):
        raise BadInput("--since and --until are about when features were published; a file does not know that")
    try:
        return ReplayPart(
            from_job=order.from_job,
            of=order.of,
            where=order.where,
            features=[name.strip() for name in (order.features or "").split(",") if name.strip()],
            since_ms=None if order.since is None else moment_ms(order.since, now, option("--since")),
            until_ms=None if order.until is None else moment_ms(order.until, now, option("--until")),
            failed_only=order.failed_only,
            from_file=order.from_file is not None,
        )
    except ValueError as error:
        raise BadInput(
            f"{either('--from-job, --of and --features take', 'features takes')} ids of 1 to 200 characters out of A-Z a-z 0-9 . _ : / @ - and space"
            f"{either(', --features separated by commas', '')}"
        ) from error


def _file(order: ReplayOrder, path: Path, settings: Settings, replayed: Replayed | None) -> FindJob:
    model = order.target_model or (replayed.state.target_model if replayed else None)
    return read(path, target_model=model, find_job_id=order.from_job, event_bytes=settings.limits.event_bytes)


def _keys(part: ReplayPart, settings: Settings, file: FindJob | None, replayed: Replayed | None) -> frozenset[str]:
    """The features to be explained. Raises BadInput when there are none, or one that was named does not exist."""
    if file is not None:
        there = frozenset(feature.feature_key for feature in file.features())
        unknown = set(part.features) - there
        keys = there & (set(part.features) or there)
        if needs_outcomes(part):
            chosen = selection_of(settings.store, part)
            keys &= chosen.places.keys() | set(chosen.unlocated)
    else:
        selection = selection_of(settings.store, part)
        keys, unknown = frozenset(selection.places), set(part.features) & set(selection.unlocated)
    if unknown:
        raise BadInput(f"{option('--features')}: {part.from_job} has no feature {listed(sorted(unknown))}; a feature of a layer is named layer/feature")
    if not keys:
        of = f" of {replayed.state.explain_job_id}" if replayed else ""
        choice = f"{option('--where')}, {option('--features')} or {option('--failed-only')}"
        raise BadInput(f"no feature{of} fits what was asked for, so there is nothing to replay; loosen {choice}")
    return frozenset(keys)


def _in_words(order: ReplayOrder) -> list[str]:
    given = (("--of", order.of), ("--where", order.where), ("--features", order.features), ("--since", order.since), ("--until", order.until))
    return [*(f"{name} {value}" for name, value in given if value is not None), *(["--failed-only"] if order.failed_only else [])]
