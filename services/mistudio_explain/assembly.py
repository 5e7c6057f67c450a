"""Puts the services of a process together out of its settings.

A service's modules are loaded where it is put together, so that a process starts without what only others need: the
aggregator, which people wait for after a restart, without numpy, templates of prompts and parsers of answers.
"""

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.lag_refresh import refresh_lag
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.fleet import Leases, driven
from mistudio_explain.llm.usage import UseNotes
from mistudio_explain.observability.gpu import Gpus
from mistudio_explain.observability.metrics import READY
from mistudio_explain.reporting.formats import check
from mistudio_explain.settings import Settings
from mistudio_explain.store.answers import StoredAnswers
from mistudio_explain.store.leases import StoredLeases
from mistudio_explain.store.ledger import Ledger
from mistudio_explain.store.seat import Seat
from mistudio_explain.store.usage import StoredUsage

if TYPE_CHECKING:
    from fastapi import FastAPI

GATEWAY = "gateway"
"""What a process may serve beside its services."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A process that is ready to run: its application, the reports where it has an aggregator, and the web application of a gateway."""

    app: StreamApp
    reports: JobReports | None
    web: "FastAPI | None"


@dataclass
class _Parts:
    """What the services of a process are made of; `stack` closes it, and what they leave for the caller stands in `reports` and `web`."""

    app: StreamApp
    settings: Settings
    rng: random.Random
    stack: AsyncExitStack
    endpoints: Endpoints | None
    gpus: Gpus | None
    reports: JobReports | None = None
    web: "FastAPI | None" = None

    @cached_property
    def controls(self) -> JobControls:
        """The orders about jobs, which a process reads once for all of its services that heed them."""
        return JobControls(self.app)

    def ledger(self) -> Ledger:
        """A ledger of its own for the one who asks."""
        return self.stack.enter_context(closing(Ledger(self.settings.store)))


@asynccontextmanager
async def assembled(settings: Settings, clients: KafkaClients, services: Sequence[str], *, endpoints: Endpoints | None = None) -> AsyncIterator[Assembly]:
    """Open what the named services need and register them; nothing runs until `app.running()` is entered.

    `endpoints` are those already open, for a caller that had to look at them first; else generation holds its records
    while one is away. Raises BadSettings for an unknown service or a model that is not there, Unreachable for an LLM
    endpoint that refuses its key.
    """
    if unknown := sorted(set(services) - set(_REGISTERED)):
        raise BadSettings(f"there is no service {', '.join(unknown)}; there are {', '.join(_REGISTERED)}")
    app = StreamApp(settings, clients)
    async with AsyncExitStack() as stack:
        rng = random.Random()  # noqa: S311  (spreads retries in time)
        if endpoints is None and ("generation" in services or ("validation" in services and settings.judge.enabled)):
            fleet = await stack.enter_async_context(driven(settings.llm, _leases(settings), rng=rng, waits=True))
            app.unready_while(fleet.unready_because)
            endpoints = fleet.endpoints
        if endpoints is not None and not clients.is_embedded:  # whose store nobody else can look into
            notes = UseNotes(endpoints, stack.enter_context(closing(StoredUsage(settings.store))))
            app.task("use of models", notes.keep)
            stack.push_async_callback(notes.note)
        gpus = Gpus.found() if endpoints is not None else None  # where models are asked, they may run too
        if gpus is not None:
            app.task("GPUs", partial(gpus.watch, partial(_served_here, endpoints)))
        parts = _Parts(app, settings, rng, stack, endpoints, gpus)
        for service, register in _REGISTERED.items():
            if service in services:
                register(parts)
        for service in services:
            READY.labels(service=service).set_function(lambda: float(app.is_ready()))
            stack.callback(READY.remove, service)
        yield Assembly(app, parts.reports, parts.web)


def _context(parts: _Parts) -> None:
    from mistudio_explain.context import service as context
    from mistudio_explain.context.serving import routing_by

    context.register(parts.app, parts.controls, routing_by(parts.settings, parts.endpoints))


def _generation(parts: _Parts) -> None:
    from mistudio_explain.generation import service as generation

    endpoints = _opened(parts)
    if endpoints.all and all(endpoint.is_cloud for endpoint in endpoints.all):
        raise BadSettings(
            "every endpoint under [[llm.endpoints]] is in a cloud, where only a second pass may go; add one of your own, or say with `cloud = false` that "
            "one of these may get every feature"
        )
    answers = parts.stack.enter_context(StoredAnswers.opened(parts.settings.store))
    budget = None
    if parts.settings.escalation.enabled:
        from mistudio_explain.generation.budget import Budget

        budget = Budget(parts.ledger(), endpoints, parts.settings.llm.prices)
    generation.register(parts.app, parts.controls, endpoints, answers, parts.rng, budget)


def _validation(parts: _Parts) -> None:
    from mistudio_explain.validation import service as validation
    from mistudio_explain.validation.validator import Validator

    judge = None
    if parts.settings.judge.enabled:
        from mistudio_explain.judging.judge import Judge

        endpoints = _opened(parts)
        judge = Judge(endpoints, parts.settings.judge, parts.settings.llm, parts.rng)
        parts.app.unready_while(endpoints.unready_because)
    validation.register(parts.app, parts.controls, Validator.load(parts.settings.quality), judge)


def _escalation(parts: _Parts) -> None:
    from mistudio_explain.escalation import service as escalation

    if not parts.settings.escalation.enabled:
        return
    if not parts.settings.escalation.route:
        raise BadSettings("escalation.enabled is set, but escalation.route names no model; name the stronger models of the second pass, best first")
    escalation.register(parts.app, parts.controls, parts.ledger())


def _aggregator(parts: _Parts) -> None:
    from mistudio_explain.aggregation import service as aggregation

    check(parts.settings.reports.formats)
    seat, gpus = parts.stack.enter_context(_seat(parts.settings)), parts.gpus
    reports = JobReports(lambda: seat.store, parts.settings, measured_watts=lambda: gpus.mean_watts if gpus is not None else None)
    parts.reports = parts.stack.enter_context(closing(reports))
    aggregation.register(parts.app, seat, parts.reports)
    if not parts.app.clients.is_embedded:  # which keeps no groups
        parts.app.task("lag metrics", partial(refresh_lag, parts.app.clients, escalates=parts.settings.escalation.enabled))


def _redelivery(parts: _Parts) -> None:
    from mistudio_explain.redelivery import service as redelivery

    redelivery.register(parts.app)


def _replayer(parts: _Parts) -> None:
    from mistudio_explain.replay import rescorer
    from mistudio_explain.replay import service as replay

    replay.register(parts.app)
    rescorer.register(parts.app)


def _gateway(parts: _Parts) -> None:
    from mistudio_explain.gateway import service as gateway

    parts.web = gateway.register(parts.app)


_REGISTERED: Mapping[str, Callable[[_Parts], None]] = {
    "context": _context,
    "generation": _generation,
    "validation": _validation,
    "escalation": _escalation,
    "aggregator": _aggregator,
    "redelivery": _redelivery,
    "replayer": _replayer,
    GATEWAY: _gateway,
}
SERVICES = tuple(name for name in _REGISTERED if name != GATEWAY)


def _opened(parts: _Parts) -> Endpoints:
    """The endpoints, for a service whose being there has opened them."""
    assert parts.endpoints is not None
    return parts.endpoints


def _served_here(endpoints: Endpoints | None) -> list[str]:
    """The models that endpoints on this machine serve first."""
    return sorted({endpoint.models[0].name for endpoint in (endpoints.all if endpoints else ()) if endpoint.reach == "machine" and endpoint.models})


@contextmanager
def _seat(settings: Settings) -> Iterator[Seat]:
    """The store's seat: taken at once where no other may wait for it, so that a second aggregator on one file refuses to start."""
    seat = Seat(settings.store)
    try:
        if not seat.is_shared:
            seat.take()
        yield seat
    finally:
        seat.leave()


@asynccontextmanager
async def opened_endpoints(settings: Settings, rng: random.Random) -> AsyncIterator[Endpoints]:
    """The LLM endpoints of the settings, seen to answer; of a discovery, those servers that no worker drives."""
    async with driven(settings.llm, _leases(settings), rng=rng, waits=False) as fleet:
        yield fleet.endpoints


def _leases(settings: Settings) -> Leases:
    """Who drives discovered servers: a matter of the store, under a name that no other process has."""
    return StoredLeases(settings.store, f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
