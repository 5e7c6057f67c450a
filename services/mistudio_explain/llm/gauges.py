"""What the metrics tell of endpoints and of the calls that they get."""

from contextlib import suppress

import structlog

from mistudio_explain.llm.dispatch import Ticket
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.placement import Choice
from mistudio_explain.llm.provider import Completion
from mistudio_explain.observability.metrics import BREAKER, FIRST_TOKEN, QUEUE_WAIT, SLOTS, SLOTS_BUSY, SWITCHES, TOKENS

log = structlog.get_logger(__name__)

_BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}


def show(endpoint: Endpoint) -> None:
    """Show an endpoint's slots and breaker as they are."""
    SLOTS.labels(endpoint=endpoint.name).set(endpoint.slots)
    SLOTS_BUSY.labels(endpoint=endpoint.name).set(endpoint.in_flight)
    BREAKER.labels(endpoint=endpoint.name).set(_BREAKER_STATES[endpoint.breaker])


def hide(name: str) -> None:
    """Show nothing more of an endpoint that has left."""
    for gauge in (SLOTS, SLOTS_BUSY, BREAKER):
        with suppress(KeyError):
            gauge.remove(name)


def count_start(ticket: Ticket, choice: Choice, now: float) -> None:
    """Count the wait of a call that starts, and the switch of models that it makes."""
    QUEUE_WAIT.labels(endpoint=choice.endpoint.name, model_name=choice.model.name).observe(now - ticket.since)
    if ticket.why is not None:
        SWITCHES.labels(endpoint=choice.endpoint.name, why=ticket.why).inc()
        log.info("llm.switches", endpoint=choice.endpoint.name, model=choice.model.name, why=ticket.why, loaded=list(choice.endpoint.residency.resident))


def count_answer(choice: Choice, completion: Completion) -> None:
    """Count an answer, also one that cannot be used."""
    TOKENS.labels(model_name=choice.model.name, direction="in").inc(completion.tokens_in or 0)
    TOKENS.labels(model_name=choice.model.name, direction="out").inc(completion.tokens_out or 0)
    if completion.first_text_s is not None:
        FIRST_TOKEN.labels(endpoint=choice.endpoint.name, model_name=choice.model.name).observe(completion.first_text_s)
