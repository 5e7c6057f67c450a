"""`explain`: one feature now, its answer shown as it comes."""

import asyncio
import random
import secrets
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaProducer

from mistudio_explain.assembly import opened_endpoints
from mistudio_explain.cli.answer import Answering
from mistudio_explain.cli.configured import reached, writing
from mistudio_explain.cli.show import error_line
from mistudio_explain.cli.start import prepare
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.serving import routing_by
from mistudio_explain.context.stage import build
from mistudio_explain.errors import Unreachable
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.generation.adapting import shortening
from mistudio_explain.generation.explainer import Explainer, GivenUp
from mistudio_explain.intake.asking import Wishes, answer_of, asked, asked_for, event_of
from mistudio_explain.intake.single import Single, read_single
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.follow import answering
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.settings import Settings
from mistudio_explain.validation.offline import background_of
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator


@dataclass(frozen=True, slots=True)
class FeatureOrder:
    """The options that name a feature and say how it is to be explained."""

    path: Path
    feature: str | None
    find_job: str | None
    target_model: str | None
    route: str | None
    prompt: str | None
    candidates: int | None
    timeout_s: float


def explain_feature(order: FeatureOrder, *, stream: bool, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Explain one feature: through Kafka's services where a Kafka is configured, else in this process; ends with 1 when it got no explanation."""
    settings = prepare(config=config, profile=profile, quiet=True)
    single = read_single(order.path, order.feature, find_job_id=order.find_job, target_model=order.target_model, event_bytes=settings.limits.event_bytes)
    shown = Answering(stream=stream, as_json=as_json)
    try:
        outcome = asyncio.run(_until_answered(settings, single, order, shown))
    except asyncio.CancelledError:
        shown.broken_off()
        error_line("interrupted: the call of the model was broken off")
        return 1
    shown.outcome(outcome)
    return 0 if outcome.outcome is OutcomeKind.EXPLAINED else 1


async def _until_answered(settings: Settings, single: Single, order: FeatureOrder, shown: Answering) -> FeatureOutcome:
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    feature = asked_for(single.feature, Wishes(order.route, order.prompt, order.candidates), datetime.now(UTC), secrets.token_hex(2))
    try:
        async with asyncio.timeout(order.timeout_s):
            if settings.kafka.bootstrap_servers is None:
                return await explained_here(settings, feature, single.job, shown)
            clients = await reached(settings)
            async with writing(settings, clients) as producer:
                shown.sent_to(clients.bootstrap_servers, feature)
                return await explained_by_services(clients, producer, feature, shown)
    except TimeoutError:
        shown.broken_off()
        raise Unreachable(f"no explanation within {order.timeout_s:g} s: {shown.how_far()}; --timeout waits longer") from None


async def explained_here(settings: Settings, feature: FeatureFound, job: tuple[FeatureFound, ...], shown: Answering) -> FeatureOutcome:
    """Explain a feature in this process, with the pure cores of the stages; the other features of its job are its background."""
    rng = random.Random()  # noqa: S311  (spreads retries in time)
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(opened_endpoints(settings, rng))
        policy = ContextPolicy.of(settings.context, settings.quality, routing_by(settings, endpoints)())
        made = build(feature, policy, Templates.load(settings.context.templates, default=settings.context.template), None)
        if not isinstance(made, ExplanationRequested):
            return made
        choice = endpoints.preferred(made.route)
        shown.asked(choice.model.name if choice else "a model", choice.endpoint.name if choice else "an endpoint", endpoints.is_demonstration)
        loading = asyncio.create_task(asyncio.to_thread(Validator.load, settings.quality))
        explainer = Explainer(endpoints, MemoryAnswers(), settings.llm, settings.generation, rng, shorten=shortening(settings.context))
        try:
            draft = await explainer.draft(made, is_urgent=True, on_piece=shown.piece)
        except GivenUp as given_up:
            return FeatureOutcome(outcome=OutcomeKind.FAILED, reason=str(given_up), subject=made.subject)
        background = background_of(feature.find_job_id, job) if job else None
        return validate(draft, background, await loading)


async def explained_by_services(clients: KafkaClients, producer: AIOKafkaProducer, feature: FeatureFound, shown: Answering) -> FeatureOutcome:
    """Send a feature to the services and follow its answer; when this is cut off, the job is cancelled, which ends the call of the model."""
    job = feature.effective_request.explain_job_id
    async with answering(clients, event_of(feature), job) as events, asked(producer, feature, _now_ms):
        async for said in answer_of(events):
            if isinstance(said, FeatureOutcome):
                return said
            await shown.piece(said.beginning, said.text)
    raise AssertionError("a topic has no end")


def _now_ms() -> int:
    return int(time.time() * 1000)
