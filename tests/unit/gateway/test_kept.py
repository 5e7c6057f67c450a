"""Kept answers: served again while nothing changed, to those alone whom they were made for."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mistudio_explain.gateway.access import Caller
from mistudio_explain.gateway.answers import read_answer, stored_answer
from mistudio_explain.gateway.kept import KEPT_S, KeptAnswers

ADA = Caller("ada", frozenset({"read"}), "k1")


@dataclass
class World:
    """An application that counts how often it is asked, and what its answers depend on."""

    version: object | None = 1
    now: float = 0.0
    times: int = 0
    keeps: bool = True
    body: Any = field(default_factory=lambda: {"a": 1})

    def __post_init__(self) -> None:
        self.answers = KeptAnswers(self._app, version=lambda: self.version, clock=lambda: self.now)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.times += 1
        request = Request(scope)
        answer = stored_answer(request, self.body) if self.keeps else read_answer(request, self.body)
        await answer(scope, receive, send)

    def ask(self, caller: Caller | None = ADA, path: str = "/jobs", query: bytes = b"", method: str = "GET", tag: str | None = None) -> Response:
        headers = [] if tag is None else [(b"if-none-match", tag.encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers, "state": {"caller": caller}}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("a read has no body")

        asyncio.run(self.answers(scope, receive, send))
        given = Response(sent[1].get("body", b""), sent[0]["status"])
        given.raw_headers = sent[0]["headers"]
        return given


def test_an_answer_is_served_again_as_it_was_while_nothing_changed() -> None:
    world = World()
    first, again = world.ask(), world.ask()
    assert world.times == 1
    assert (again.status_code, again.body, again.headers["etag"]) == (200, first.body, first.headers["etag"])
    assert again.headers["content-type"] == "application/json"
    assert again.headers["cache-control"] == first.headers["cache-control"]


def test_who_has_a_kept_answer_is_told_so() -> None:
    world = World()
    tag = world.ask().headers["etag"]
    again = world.ask(tag=tag)
    assert (again.status_code, again.body, again.headers["etag"], world.times) == (304, b"", tag, 1)


def test_a_change_and_the_passing_of_time_end_a_kept_answer() -> None:
    world = World()
    world.ask()
    world.version, world.body = 2, {"a": 2}
    assert orjson.loads(world.ask().body) == {"a": 2}
    world.now, world.body = KEPT_S, {"a": 3}
    assert orjson.loads(world.ask().body) == {"a": 3}


@pytest.mark.parametrize(
    "other",
    [
        {"caller": Caller("bob", frozenset({"read"}), "k2")},
        {"caller": Caller("ada", frozenset({"write"}), "k3")},
        {"caller": None},
        {"path": "/jobs/explain_1"},
        {"query": b"limit=1"},
        {"method": "POST"},
    ],
)
def test_nobody_gets_what_was_answered_to_somebody_or_something_else(other: dict[str, Any]) -> None:
    world = World()
    world.ask()
    world.ask(**other)
    assert world.times == 2


def test_an_answer_that_rests_on_something_else_is_not_kept_nor_one_of_unknown_version() -> None:
    elsewhere, unknown = World(keeps=False), World(version=None)
    for world in (elsewhere, unknown):
        world.ask()
        world.ask()
        assert world.times == 2


def test_what_is_kept_is_bounded_in_number_and_size() -> None:
    world = World()
    for number in range(300):
        world.ask(path=f"/jobs/{number}")
    world.ask(path="/jobs/0")
    world.ask(path="/jobs/299")
    assert world.times == 301
    large = World(body={"a": "x" * (1 << 16)})
    large.ask()
    large.ask()
    assert large.times == 2
