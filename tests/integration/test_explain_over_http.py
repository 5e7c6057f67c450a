"""One feature asked of the gateway: pieces before the outcome, the outcome alone, and what ends the question."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.gates import calling, gateway_app, gateway_settings
from integration.sse_client import listening
from integration.test_explain_now import WORDS, Speaker, services
from integration.test_stream_app import MakeApp, make_app, until
from mistudio_explain.gateway.live import Live
from mistudio_explain.gateway.service import register, web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.settings import GatewaySettings, StoreSettings

__all__ = ["make_app"]  # fixture

FEATURE = {"feature_id": 5, "coherence_score": 0.7, "top_activations": [{"text": f"a fixed thing {n}", "activation_value": 9.0 - n} for n in range(3)]}
QUESTION: dict[str, Any] = {"feature": FEATURE, "find_job": "find_1", "target_model": "m", "timeout_s": 60}


@asynccontextmanager
async def gateway(app: StreamApp, speaker: Speaker, folder: Path) -> AsyncIterator[str]:
    """A gateway beside services whose model is `speaker`."""
    app.settings = app.settings.model_copy(update={"store": StoreSettings(url=f"sqlite:///{folder}/state/explain.db"), "gateway": GatewaySettings(port=0)})
    web = register(app)
    live: Live = web.state.gateway.live
    async with web_server(web, app.settings.gateway) as address, services(app, speaker):
        assert await live.begun(30) is not None
        yield f"{address}/api/v1/explain"


async def test_the_pieces_of_an_answer_come_while_the_model_writes_it_and_the_outcome_ends_the_stream(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    async with gateway(make_app(), speaker, tmp_path) as url, listening(url, method="POST", json=QUESTION) as events:
        start = await events.next()
        assert (start.name, start.content["feature_key"]) == ("start", "5")
        first = await events.next()  # the model says no second word before this one was seen
        assert first.content == {"beginning": 0, "text": WORDS[0]}
        speaker.let.set()
        rest = await events.until("outcome")
        assert "".join([first.content["text"], *(event.content["text"] for event in rest[:-1])]) == "".join(WORDS)
        outcome = rest[-1].content
        assert outcome["outcome"] == "explained"
        assert outcome["subject"]["explain_job_id"] == start.content["explain_job_id"]
        assert outcome["evidence"]["seen"]
        with pytest.raises(StopAsyncIteration):
            await events.next()


async def test_without_a_stream_the_outcome_is_the_answer(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    speaker.let.set()
    async with gateway(make_app(), speaker, tmp_path) as url, httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(url, json=QUESTION)
    assert answer.status_code == 200
    assert answer.json()["outcome"] == "explained"


async def test_a_client_that_goes_ends_the_call_of_the_model(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    async with gateway(make_app(), speaker, tmp_path) as url:
        async with listening(url, method="POST", json=QUESTION) as events:
            await events.until("piece")
        await until(lambda: speaker.cut_off == 1)
    assert speaker.calls == 1


async def test_a_client_that_does_not_wait_for_its_json_ends_the_call_of_the_model_too(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    async with gateway(make_app(), speaker, tmp_path) as url, httpx.AsyncClient(timeout=60) as client:
        asking = asyncio.create_task(client.post(url, json=QUESTION))
        await until(lambda: speaker.calls == 1 and speaker.has_begun.is_set())
        asking.cancel()
        await until(lambda: speaker.cut_off == 1)
    assert speaker.calls == 1


async def test_a_question_sent_again_with_its_key_asks_no_model_again_and_is_answered_in_either_form(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    speaker.let.set()
    key = {"idempotency-key": "k1"}
    async with gateway(make_app(), speaker, tmp_path) as url, httpx.AsyncClient(timeout=60) as client:
        async with listening(url, method="POST", json=QUESTION, headers=key) as events:
            outcome = (await events.until("outcome"))[-1].content
        again = await client.post(url, json=QUESTION, headers=key)
        async with listening(url, method="POST", json=QUESTION, headers=key) as events:
            assert (await events.next()).content == outcome
        other = await client.post(url, json=QUESTION | {"candidates": 2}, headers=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (outcome, "true")
    assert (other.status_code, other.json()["type"]) == (422, "urn:mistudio-explain:problem:key-reused")
    assert speaker.calls == 1


async def test_a_question_that_was_broken_off_may_be_asked_again_with_its_key(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    key = {"idempotency-key": "k1"}
    async with gateway(make_app(), speaker, tmp_path) as url, httpx.AsyncClient(timeout=60) as client:
        async with listening(url, method="POST", json=QUESTION, headers=key) as events:
            await events.until("piece")
            assert (await client.post(url, json=QUESTION, headers=key)).status_code == 409
        await until(lambda: speaker.cut_off == 1)
        speaker.let.set()
        while (answer := await client.post(url, json=QUESTION, headers=key)).status_code == 409:
            pass  # the one before is being given up
    assert answer.json()["outcome"] == "explained"


async def test_an_answer_that_takes_too_long_is_given_up_and_its_call_ended(make_app: MakeApp, tmp_path: Path) -> None:
    speaker = Speaker()
    async with gateway(make_app(), speaker, tmp_path) as url, httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(url, json=QUESTION | {"timeout_s": 2})
        assert (answer.status_code, answer.json()["type"]) == (504, "urn:mistudio-explain:problem:no-answer-in-time")
        await until(lambda: speaker.cut_off == speaker.calls)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"feature": {"feature_id": "5|6", "top_activations": [{"text": "a"}]}}, 400, "feature_id"),
        ({"feature": {**FEATURE, "coherence_score": "much"}}, 400, "coherence_score"),
        ({"feature": {**FEATURE, "statistics": 1 << 70}}, 400, "64 bits"),
        ({"feature": {**FEATURE, "name": "\ud800"}}, 400, "halves of characters"),
        ({"find_job": "../../etc"}, 0, ""),
        ({"find_job": "a|b"}, 422, "find_job"),
        ({"timeout_s": 1e9}, 422, "timeout_s"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
async def test_a_feature_that_cannot_be_used_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], status: int, said: str) -> None:
    answer = calling(gateway_app(gateway_settings(tmp_path))).post(
        "/api/v1/explain", content=json.dumps(QUESTION | change), headers={"content-type": "application/json"}
    )
    assert answer.status_code == (status or 503)  # a good question finds Kafka away
    assert said in answer.json()["detail"]
