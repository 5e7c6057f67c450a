"""Looks at lag and fleet: shared by all who ask at about the same time, and the figures of the command line."""

import asyncio

import pytest

from integration.test_stream_app import MakeApp, feature, make_app
from mistudio_explain.context import service as context_service
from mistudio_explain.errors import Unreachable
from mistudio_explain.events import topics
from mistudio_explain.gateway.looks import Looked, look_at_fleet, look_at_lag
from mistudio_explain.gateway.problems import Problem
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import LlmSettings, Settings

__all__ = ["make_app"]  # fixture


class Outside:
    """Something that is looked at, and a clock that a test sets."""

    def __init__(self) -> None:
        self.looks = 0
        self.now_s = 100.0
        self.is_away = False

    async def look(self) -> dict[str, int]:
        await asyncio.sleep(0)
        if self.is_away:
            raise Unreachable("away")
        self.looks += 1
        return {"look": self.looks}


async def test_all_who_ask_at_about_the_same_time_share_a_look() -> None:
    outside = Outside()
    looked = Looked(outside.look, lambda: outside.now_s)
    assert await asyncio.gather(*(looked.now() for _ in range(20))) == [{"look": 1}] * 20
    outside.now_s += 3
    assert await looked.now() == {"look": 2}


async def test_a_look_that_failed_is_said_and_not_kept() -> None:
    outside = Outside()
    looked = Looked(outside.look, lambda: outside.now_s)
    outside.is_away = True
    with pytest.raises(Unreachable):
        await looked.now()
    outside.is_away = False
    assert await looked.now() == {"look": 1}


async def test_lag_is_that_of_the_groups_where_kafka_keeps_any(make_app: MakeApp) -> None:
    app = make_app()
    look = look_at_lag(app)
    if not app.clients.is_embedded:
        with pytest.raises(Problem, match="Kafka does not answer, so nobody can tell"):
            await look.now()
    context_service.register(app, JobControls(app))
    async with app.running():
        await app.publish([outgoing(feature(1))])
        found = await look.now()
    if app.clients.is_embedded:
        assert "no consumer groups" in found["unavailable"]
        return
    rows = {(row["service"], row["topic"]): row for row in found["lag"]}
    assert rows["context", topics.FEATURES]["members"] == 1


async def test_an_endpoint_that_is_away_is_shown_with_why_it_does_not_serve() -> None:
    endpoint = {"name": "gpu0", "provider": "ollama", "url": "http://127.0.0.1:1"}
    found = await look_at_fleet(Settings(llm=LlmSettings.model_validate({"endpoints": [endpoint]}))).now()
    (shown,) = found["endpoints"]
    assert (shown["endpoint"], shown["status"]) == ("gpu0", "down")
    assert shown["why"]
