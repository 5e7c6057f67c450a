"""Puts the services of a process together out of its settings.

A service's modules are loaded where it is put together, so that a process starts without what only others need: the
aggregator, which people wait for after a restart, without numpy, templates of prompts and parsers of answers.
"""

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
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
from mistudio_explain.reporting.formats import check
from mistudio_explain.settings import Settings
from mistudio_explain.store.answers import StoredAnswers
from mistudio_explain.store.leases import StoredLeases
from mistudio_explain.store.ledger import Ledger
from mistudio_explain.store.seat import Seat
from mistudio_explain.store.usage import StoredUsage

if TYPE_CHECKING:
    from fastapi import FastAPI

SERVICES = ("context", "generation", "validation", "escalation", "aggregator", "redelivery", "replayer")
GATEWAY = "gateway"
"""What a process may serve beside them."""
_CONTROLLED = frozenset({"context", "generation", "validation", "escalation"})


@dataclass(frozen=True, slots=True)
class Assembly:
    """A process that is ready to run: its application, the reports where it has an aggregator, and the web application of a gateway."""

    app: StreamApp
    reports: JobReports | None
    web: "FastAPI | None"


@asynccontextmanager
async def assembled(settings: Settings, clients: KafkaClients, services: Sequence[str], *, endpoints: Endpoints | None = None) -> AsyncIterator[Assembly]:
    """Open what the named services need and register them; nothing runs until `app.running()` is entered.

    `endpoints` are those already open, for a caller that had to look at them first; else generation holds its records
    while one is away. Raises BadSettings for an unknown service or a model that is not there, Unreachable for an LLM
    endpoint that refuses its key.
    """
    if unknown := sorted(set(services) - {*SERVICES, GATEWAY}):
        raise BadSettings(f"there is no service {', '.join(unknown)}; there are {', '.join((*SERVICES, GATEWAY))}")
    app = StreamApp(settings, clients)
    reports = None
    async with AsyncExitStack() as stack:
        rng = random.Random()  # noqa: S311  (spreads retries in time)
        judges = settings.judge.enabled and "validation" in services
        if endpoints is None and ("generation" in services or judges):
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
        controls = JobControls(app) if _CONTROLLED & set(services) else None
        if "context" in services and controls is not None:
            from mistudio_explain.context import service as context
            from mistudio_explain.context.serving import routing_by

            context.register(app, controls, routing_by(settings, endpoints))
        if "generation" in services and endpoints is not None and endpoints.all and all(endpoint.is_cloud for endpoint in endpoints.all):
            raise BadSettings(
                "every endpoint under [[llm.endpoints]] is in a cloud, where only a second pass may go; add one of your own, or say with `cloud = false` that "
                "one of these may get every feature"
            )
        if "generation" in services and controls is not None and endpoints is not None:
            from mistudio_explain.generation import service as generation

            answers = stack.enter_context(StoredAnswers.opened(settings.store))
            budget = None
            if settings.escalation.enabled:
                from mistudio_explain.generation.budget import Budget

                budget = Budget(_ledger(settings, stack), endpoints, settings.llm.prices)
            generation.register(app, controls, endpoints, answers, rng, budget)
        if "validation" in services and controls is not None:
            from mistudio_explain.validation import service as validation
            from mistudio_explain.validation.validator import Validator

            judge = None
            if judges and endpoints is not None:
                from mistudio_explain.judging.judge import Judge

                judge = Judge(endpoints, settings.judge, settings.llm, rng)
                app.unready_while(endpoints.unready_because)
            validation.register(app, controls, Validator.load(settings.quality), judge)
        if "escalation" in services and controls is not None and settings.escalation.enabled:
            from mistudio_explain.escalation import service as escalation

            if not settings.escalation.route:
                raise BadSettings("escalation.enabled is set, but escalation.route names no model; name the stronger models of the second pass, best first")
            escalation.register(app, controls, _ledger(settings, stack))
        if "replayer" in services:
            from mistudio_explain.replay import rescorer
            from mistudio_explain.replay import service as replay

            replay.register(app)
            rescorer.register(app)
        if "aggregator" in services:
            from mistudio_explain.aggregation import service as aggregation

            check(settings.reports.formats)
            seat = stack.enter_context(_seat(settings))
            reports = JobReports(lambda: seat.store, settings, measured_watts=lambda: gpus.mean_watts if gpus is not None else None)
            aggregation.register(app, seat, reports)
            if not clients.is_embedded:  # which keeps no groups
                app.task("lag metrics", partial(refresh_lag, clients))
        if "redelivery" in services:
            from mistudio_explain.redelivery import service as redelivery

            redelivery.register(app)
        web = None
        if GATEWAY in services:
            from mistudio_explain.gateway import service as gateway

            web = gateway.register(app)
        yield Assembly(app, reports, web)


def _served_here(endpoints: Endpoints | None) -> list[str]:
    """The models that endpoints on this machine serve first."""
    return sorted({endpoint.models[0].name for endpoint in (endpoints.all if endpoints else ()) if endpoint.reach == "machine" and endpoint.models})


def _ledger(settings: Settings, stack: AsyncExitStack) -> Ledger:
    ledger = Ledger(settings.store)
    stack.callback(ledger.close)
    return ledger


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
