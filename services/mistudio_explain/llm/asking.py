"""One question's way to a usable answer: slot, call, reading, and another try."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mistudio_explain.errors import ExplainError, UnusableAnswer
from mistudio_explain.llm.breaker import Sleep as Sleep
from mistudio_explain.llm.endpoints import Choice, Endpoints
from mistudio_explain.llm.failures import CallFailure, ConnectionDropped
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.observability.metrics import FAILED_CALLS

MAX_DROPS = 8
"""So often an endpoint may go down under a record before the record is suspected of it: else one that makes the server crash would do so for ever."""

Complete = Callable[[Choice, Call], Awaitable[Completion]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FailedTry:
    """One try that gave no usable answer; `completion` is what the model said, None where it said nothing."""

    endpoint: str
    model: str
    kind: str
    message: str
    completion: Completion | None = None

    def __str__(self) -> str:
        return f"{self.model} at {self.endpoint}, {self.kind}: {self.message}"


class NoAnswer(ExplainError):
    """A question got no usable answer in all its tries."""

    def __init__(self, tries: Sequence[FailedTry], *, repeatable: bool) -> None:
        listed = "; ".join(f"({number}) {failed}" for number, failed in enumerate(tries, 1))
        super().__init__(f"no usable answer in {len(tries)} {'try' if len(tries) == 1 else 'tries'}: {listed}")
        self.tries = tuple(tries)
        self.repeatable = repeatable


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """A usable answer as it was read, the call and completion that it came from, and the tries before it."""

    read: T
    choice: Choice
    call: Call
    completion: Completion
    tries: tuple[FailedTry, ...]


async def ask(
    endpoints: Endpoints,
    route: Sequence[str],
    call_for: Callable[[Choice, int], Call],
    read: Callable[[Completion], T],
    *,
    attempts: int,
    retry_wait_s: float,
    rng: random.Random,
    is_urgent: bool = False,
    sleep: Sleep = asyncio.sleep,
    complete: Complete | None = None,
) -> Asked[T]:
    """Ask until an answer can be read.

    `call_for` makes the call for an endpoint's model and the number of unusable answers so far; `read` raises
    UnusableAnswer. While no endpoint can serve the route the question is held, without limit and without counting a
    try: cancel it to stop. An urgent one takes the next slot that falls free. Waits between tries double, with full
    jitter. A question may go to an endpoint in a cloud only with `complete`, which sends the calls then, and answers for
    what they cost. Raises NoAnswer after `attempts` tries that failed by the question's own fault, or at once when another
    cannot help.
    """
    tries: list[FailedTry] = []
    unusable = drops = 0
    while True:
        async with endpoints.slot(route, is_urgent=is_urgent, cloud=complete is not None) as choice:
            call = call_for(choice, unusable)
            try:
                completion = await (complete or endpoints.complete)(choice, call)
                return Asked(read(completion), choice, call, completion, tuple(tries))
            except UnusableAnswer as error:
                unusable += 1
                _count(choice, error)
                tries.append(FailedTry(choice.endpoint.name, choice.model.name, error.kind, str(error), completion))
                final = not error.repeatable
            except CallFailure as failure:
                _count(choice, failure)
                drops += isinstance(failure, ConnectionDropped)
                if await endpoints.blames_endpoint(choice, call, failure) and drops <= MAX_DROPS:
                    continue
                tries.append(FailedTry(choice.endpoint.name, choice.model.name, failure.kind, str(failure)))
                final = not failure.repeatable
        if final or len(tries) >= attempts:
            raise NoAnswer(tries, repeatable=not final)
        await sleep(rng.uniform(0, retry_wait_s * 2 ** (len(tries) - 1)))


def _count(choice: Choice, error: UnusableAnswer | CallFailure) -> None:
    FAILED_CALLS.labels(endpoint=choice.endpoint.name, model_name=choice.model.name, kind=error.kind).inc()
