"""`replay`: a find job's features explained again under a new job."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaProducer

from mistudio_explain.cli.copying import Shown, follow_copies
from mistudio_explain.cli.show import console, error_line, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import SealedPart
from mistudio_explain.intake.service import publish_replay
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.orders import read_jobs
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.replay.forecast import Change, Forecast, forecast
from mistudio_explain.replay.order import Plan, ReplayOrder, check_unused, plan
from mistudio_explain.replay.selection import Replayed, replayed_job
from mistudio_explain.replay.stage import knows_how_many, request_of
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import read_outcomes

_NO_KAFKA = "kafka.bootstrap_servers is not set: a replay copies features that stand in Kafka; `mistudio-explain run` explains a file without one"


def replay_job(order: ReplayOrder, *, dry_run: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Order a replay and show it until its last feature is sent; ends with 1 when features were asked for that could not be."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if settings.kafka.bootstrap_servers is None and not dry_run:
        raise BadSettings(_NO_KAFKA)
    made = plan(order, settings, datetime.now(UTC))
    if dry_run:
        _show_forecast(made, settings, as_json=as_json)
        return 0
    shown = Shown(made.job, as_json=as_json, of=len(made.features) if made.replay.replay and knows_how_many(made.replay.replay) else None)
    try:
        sealed = asyncio.run(_replay(settings, made, shown))
    except KeyboardInterrupt:
        stays = "what was sent stays; the job is not sealed" if made.file else "the order stands, and the replayer goes on with it"
        error_line(f"interrupted: {stays}; `mistudio-explain cancel {made.job}` takes it back")
        return 1
    shown.sealed(sealed)
    return 1 if sealed.notes else 0


async def _replay(settings: Settings, made: Plan, shown: Shown) -> SealedPart:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with AsyncExitStack() as stack:
        async with clients.admin() as admin:
            await create_topics(admin, topic_specs(settings), settings.kafka.replication)
        check_unused(await read_jobs(clients), made)
        producer = await stack.enter_async_context(clients.producer({spec.name for spec in topic_specs(settings)}))
        if made.file is not None:
            return await _send_file(producer, made, made.file, shown)
        copies = await stack.enter_async_context(follow_copies(clients, made.job))
        await publish(producer, [outgoing(made.request), outgoing(made.replay)])
        shown.ordered()
        return await shown.until_sealed(copies, clients)


async def _send_file(producer: AIOKafkaProducer, made: Plan, file: FindJob, shown: Shown) -> SealedPart:
    assert made.request.request is not None
    await publish(producer, [outgoing(made.request), outgoing(made.replay)])
    shown.ordered()
    request = request_of(made.replay, made.request.request, len(made.features))
    with shown.bar():
        sent = await publish_replay(producer, _chosen(file, made.features), request, shown.copied)
    part = SealedPart(expected=sent)
    await publish(producer, [outgoing(made.replay.model_copy(update={"replay": None, "sealed": part}))])
    return part


def _chosen(file: FindJob, keys: frozenset[str]) -> Iterable[FeatureFound]:
    return (feature for feature in file.features() if feature.feature_key in keys)


def _show_forecast(made: Plan, settings: Settings, *, as_json: bool) -> None:
    assert made.request.request is not None
    assert made.replay.replay is not None
    replayed = made.replayed or replayed_job(settings.store, made.replay.replay.from_job, None)
    state = replayed.state
    wall_s = None if state.first_ms is None or state.last_ms is None else (state.last_ms - state.first_ms) / 1000
    named = [endpoint.slots for endpoint in settings.llm.endpoints if endpoint.discover is None]
    slots = sum(each for each in named if each is not None) if named and None not in named else None  # learnt ones are known while it runs
    outcomes = read_outcomes(settings.store, state.explain_job_id)
    change = Change(made.request.request, replayed.request)
    found = forecast(made.features, outcomes, change, wall_s=wall_s, slots=slots, kept_answers=settings.store.answers)
    if as_json:
        print_json({"explain_job_id": made.job, "of": state.explain_job_id, "dry_run": True, **figures(found)})
        return
    for line in _lines(made, replayed, found):
        console().print(line)


def figures(made: Forecast) -> dict[str, object]:
    """A forecast for scripts."""
    return {
        "features": made.features,
        "skipped": made.skipped,
        "likely_cached": made.cached,
        "model_calls": made.estimate.calls,
        "estimated_seconds": made.estimate.seconds,
        "estimated_cost_usd": made.estimate.cost_usd,
        "seconds_per_call": made.estimate.seconds_per_call,
        "measured_answers": made.measured,
        "in_parallel": made.estimate.in_parallel,
        "in_parallel_from": made.parallel_from,
    }


def _lines(made: Plan, replayed: Replayed, found: Forecast) -> Iterator[str]:
    state, estimated = replayed.state, found.estimate
    period = "" if made.replay.replay is None or knows_how_many(made.replay.replay) else "at most "
    yield f"{made.job} would replay {period}{found.features} of the {state.admitted} features of {state.explain_job_id}"
    if found.skipped:
        yield f"{found.skipped} of them stay skipped as poor; --explain-poor explains such features too"
    if found.cached:
        yield f"{found.cached} answers are likely cached: the same model and prompt gave them before; they cost no call"
    basis = f"measured on {found.measured} answers" if found.measured else "a guess: that model gave no answer yet"
    parallel = {
        "settings": "as the settings allow",
        "measured": f"as {state.explain_job_id} did",
        "guess": "a guess: the settings name no endpoint, and nothing was measured",
    }[found.parallel_from]
    yield f"{estimated.calls} model calls of {estimated.seconds_per_call:.2f} s ({basis}), {estimated.in_parallel} at once ({parallel})"
    cost = "no API cost" if estimated.cost_usd == 0 else "cost unknown" if estimated.cost_usd is None else f"${estimated.cost_usd:.2f}"
    yield f"estimated {_duration(estimated.seconds)}, {cost}"
    if state.expected is None or state.admitted < state.expected:
        yield f"{state.explain_job_id} is not complete: only features that have entered it are counted and replayed"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
