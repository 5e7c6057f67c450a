"""`run`: a find job from its file to its report, in one process."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from mistudio_explain.assembly import SERVICES, Assembly, assembled, opened_endpoints
from mistudio_explain.cli.order import InputOrder, read_input
from mistudio_explain.cli.progress import Progressing, show_until_end
from mistudio_explain.cli.serve import kafka_or_embedded, rows_for
from mistudio_explain.cli.show import console, error_line, plain, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.cli.summary import summary
from mistudio_explain.cli.watch import exit_code, pages_of
from mistudio_explain.context.estimate import Estimate, estimate
from mistudio_explain.errors import BrokerLost
from mistudio_explain.events.job import JobReport
from mistudio_explain.intake.order import admitted, request_for, to_explain
from mistudio_explain.intake.service import publish_job
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.kafka.embedded import EmbeddedBroker
from mistudio_explain.kafka.follow import Followed, following
from mistudio_explain.llm.connection import is_loopback
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.reporting.shelf import shelf_of
from mistudio_explain.settings import Settings

log = structlog.get_logger(__name__)

_STOP_S = 5.0
_SHORT_RETRY_S = 1.0
_LONG_RETRY_S = 5.0
_FREE = frozenset({"demonstration", "ollama"})  # local by their nature; what an OpenAI-compatible server elsewhere costs is not known
SECONDS_PER_CALL = {"demonstration": 1.5, "ollama": 5.0, "openai": 5.0, "anthropic": 5.0}
"""What a call takes before anything was measured: the demonstration model on one core (benchmarks), else the specification's bound of 5 s."""


def run_job(order: InputOrder, *, out: Path | None, dry_run: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Read, check, explain, report; ends with 1 when the job is not complete or a feature failed."""
    reports = {} if out is None else {"reports": {"directory": str(out)}}
    settings = prepare(config=config, profile=profile, flags={**order.flags, **reports}, quiet=True)
    shelf_of(settings.reports).check()
    job = read_input(order, settings)
    seen = Progressing(as_json, expected=job.total)
    with rows_for(_impatient(settings)) as settled:
        try:
            report = asyncio.run(_run(settled, job, seen, dry_run=dry_run, reopen=order.reopen))
        except asyncio.CancelledError:
            error_line("interrupted before anything was explained")
            return 1
    if report is None:
        return 0 if dry_run else 1
    if not as_json:
        console().print(summary(report, list(seen.outcomes.values()), pages_of(report)))
    return max(exit_code(report), 1 if job.problems else 0)


def _impatient(settings: Settings) -> Settings:
    """Settings for a person who waits: a record that failed is tried again after seconds, not minutes."""
    waits = {"short_s": min(settings.retry.short_s, _SHORT_RETRY_S), "long_s": min(settings.retry.long_s, _LONG_RETRY_S)}
    return settings.model_copy(update={"retry": settings.retry.model_copy(update=waits)})


async def _run(settings: Settings, job: FindJob, seen: Progressing, *, dry_run: bool, reopen: bool) -> JobReport | None:
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(opened_endpoints(settings, random.Random()))  # noqa: S311  (spreads retries in time)
        estimated = _estimate(job, settings, endpoints)
        _announce(job, settings, endpoints, estimated, as_json=seen.as_json, dry_run=dry_run)
        if dry_run:
            return None
        clients, broker = await stack.enter_async_context(kafka_or_embedded(settings))
        assembly = await stack.enter_async_context(assembled(settings, clients, SERVICES, endpoints=endpoints))
        running = await stack.enter_async_context(AsyncExitStack())
        request = request_for(job, settings)
        try:
            await running.enter_async_context(assembly.app.running())
            if broker is None:
                request = await admitted(clients, assembly.app.producer, job, request, reopen=reopen, now_ms=assembly.app.now_ms())
            events = await running.enter_async_context(following(clients, request.explain_job_id, revision=request.revision))
            publishing = publish_job(assembly.app.producer, job, request, (estimated.seconds, estimated.cost_usd), int(time.time() * 1000))
            return await _until_end(events, seen, broker, publishing)
        except (BrokerLost, asyncio.CancelledError) as error:
            return await _interrupted(assembly, request.explain_job_id, seen, error, running)


async def _until_end(events: AsyncIterator[Followed], seen: Progressing, broker: EmbeddedBroker | None, publishing: Coroutine[Any, Any, int]) -> JobReport:
    """Publish and show, until the job is at an end or the embedded broker is gone."""
    try:
        async with asyncio.TaskGroup() as tasks:
            shown = tasks.create_task(show_until_end(events, seen))
            tasks.create_task(publishing)
            watch = tasks.create_task(broker.died()) if broker else None
            report = await shown
            if watch is not None:
                watch.cancel()
            return report
    except* BrokerLost as lost:
        raise lost.exceptions[0] from None


async def _interrupted(assembly: Assembly, job: str, seen: Progressing, error: BaseException, running: AsyncExitStack) -> JobReport | None:
    """Report what was explained so far, marked incomplete; what runs is left behind when it cannot be stopped."""
    assert assembly.reports is not None
    assembly.reports.add(seen.outcomes.values(), now_ms=assembly.app.now_ms())
    report = assembly.reports.numbers(job, now_ms=assembly.app.now_ms(), interrupted=True)
    if report is not None:
        report = assembly.reports.with_files(report)
    error_line(str(error) or "interrupted")
    error_line("nothing was explained yet, so there is no report" if report is None else "what was explained so far is in the report")
    assembly.app.abandon()
    try:
        async with asyncio.timeout(_STOP_S):
            await running.aclose()
    except (TimeoutError, asyncio.CancelledError, KafkaError) as late:  # a client whose broker is gone cannot even leave
        log.debug("run.not_stopped", error=repr(late))
    return report


def _estimate(job: FindJob, settings: Settings, endpoints: Endpoints) -> Estimate:
    seconds = max(SECONDS_PER_CALL[endpoint.kind] for endpoint in endpoints.all)
    is_free = all(endpoint.kind in _FREE or is_loopback(endpoint.url) for endpoint in endpoints.all)
    return estimate(to_explain(job, settings) * settings.generation.candidates, endpoints.slots, seconds, 0.0 if is_free else None)


def _announce(job: FindJob, settings: Settings, endpoints: Endpoints, estimated: Estimate, *, as_json: bool, dry_run: bool) -> None:
    explained = to_explain(job, settings)
    models = ", ".join(f"{endpoint.models[0].name} at {endpoint.name}" for endpoint in endpoints.all)
    if as_json:
        print_json(
            {
                "event": "start",
                "find_job_id": job.find_job_id,
                "target_model": job.target_model,
                "features": job.total,
                "to_explain": explained,
                "tiers": job.distribution.tiers,
                "models": models,
                "estimated_seconds": estimated.seconds,
                "estimated_cost_usd": estimated.cost_usd,
                "dry_run": dry_run,
            }
        )
        return
    tiers = ", ".join(f"{count} {tier.value}" for tier, count in job.distribution.tiers.items() if count)
    console().print(f"{job.find_job_id} of {plain(job.target_model)}: {job.total} features ({tiers}), {explained} to explain")
    cost = "no API cost" if estimated.cost_usd == 0 else "cost unknown" if estimated.cost_usd is None else f"${estimated.cost_usd:.2f}"
    console().print(f"explained by {plain(models)}; estimated {estimated.seconds:.0f} s, {cost}")
    if endpoints.is_demonstration:
        console().print(
            "That is a demonstration model: its explanations show the machinery and are not to be trusted. "
            "Start an Ollama, or name an LLM server in the settings, for real ones."
        )
