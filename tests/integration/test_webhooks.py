"""Receivers are told of jobs' ends: each at least once, with one id, across refusals and restarts."""

import base64
import hmac
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from integration.receiver import Message, Receiver, receiving, status
from integration.test_live_events import report
from integration.test_stream_app import MakeApp, make_app, until
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.job import JobStatus
from mistudio_explain.gateway import deliveries
from mistudio_explain.gateway.service import register, web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import GatewaySettings, ReceiverSettings, Settings, StoreSettings, WebhookSettings

__all__ = ["make_app"]  # fixture

KEY = bytes(range(32))
NOW_MS = 10**13  # later than the start of any gateway


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_FIRST_WAIT_S", 0.01)


def with_receiver(settings: Settings, folder: Path, port: int, **webhooks: Any) -> Settings:
    secret = folder / "secret"
    secret.write_text(f"whsec_{base64.b64encode(KEY).decode()}\n")
    receivers = (ReceiverSettings(name="r", url=f"http://127.0.0.1:{port}/hook", secret_file=secret),)
    return settings.model_copy(
        update={
            "store": StoreSettings(url=f"sqlite:///{folder}/state/explain.db"),
            "gateway": GatewaySettings(port=0),
            "webhooks": WebhookSettings(receivers=receivers, networks=("127.0.0.0/8",), **webhooks),
        }
    )


@asynccontextmanager
async def gateway(make_app: MakeApp, folder: Path, receiver: Receiver, **webhooks: Any) -> AsyncIterator[tuple[StreamApp, str]]:
    app = make_app()
    app.settings = with_receiver(app.settings, folder, receiver.port, **webhooks)
    web = register(app)
    async with web_server(web, app.settings.gateway) as address, app.running():
        assert await web.state.gateway.live.begun(30) is not None
        yield app, f"{address}/api/v1/webhooks"


async def settled(url: str) -> list[dict[str, Any]]:
    """The messages, once none is pending."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            found: list[dict[str, Any]] = (await client.get(url)).json()["deliveries"]
            if found and all(each["state"] != "pending" for each in found):
                return found


def check_signature(message: Message) -> None:
    said = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    assert message.headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(KEY, said, "sha256")).decode()


async def test_a_jobs_end_is_told_until_it_is_accepted_with_one_id(make_app: MakeApp, tmp_path: Path) -> None:
    async with (
        receiving(status(500), status(302, "location: http://127.0.0.1:1/"), status(204)) as receiver,
        gateway(make_app, tmp_path, receiver) as (app, url),
    ):
        ended = report(JobStatus.COMPLETED, explained=3, at_ms=NOW_MS)
        await app.publish([outgoing(report(at_ms=NOW_MS)), outgoing(ended)])
        await until(lambda: len(receiver.got) == 3)
        (delivery,) = await settled(url)
        await app.publish([outgoing(ended.model_copy(update={"reviewed": 1})), outgoing(ended.model_copy(update={"revision": 1}))])
        await until(lambda: len(receiver.got) == 4)
    assert len({message.headers["webhook-id"] for message in receiver.got[:3]}) == 1
    assert receiver.got[3].headers["webhook-id"] != receiver.got[0].headers["webhook-id"]
    for message in receiver.got:
        check_signature(message)
    assert json.loads(receiver.got[0].body)["data"]["explained"] == 3
    assert (delivery["state"], delivery["attempts"], delivery["said"]) == ("accepted", 3, "accepted")


async def test_what_was_not_accepted_is_told_after_a_restart_and_what_was_is_not_told_again(make_app: MakeApp, tmp_path: Path) -> None:
    async with receiving(status(204), status(500)) as receiver:
        async with gateway(make_app, tmp_path, receiver) as (app, _):
            await app.publish([outgoing(report(JobStatus.COMPLETED, job="explain_told", at_ms=NOW_MS))])
            await until(lambda: len(receiver.got) == 1)
            await app.publish([outgoing(report(JobStatus.INCOMPLETE, job="explain_refused", at_ms=NOW_MS))])
            await until(lambda: len(receiver.got) > 1)
        refused = receiver.got[1].headers["webhook-id"]
        receiver.answers = (status(200),)
        before = len(receiver.got)
        async with gateway(make_app, tmp_path, receiver) as (_, url):
            states = {each["explain_job_id"]: each["state"] for each in await settled(url)}
        assert states == {"explain_told": "accepted", "explain_refused": "accepted"}
        assert [message.headers["webhook-id"] for message in receiver.got[before:]] == [refused]


async def test_an_end_that_came_while_no_gateway_ran_is_told_at_the_next_start(make_app: MakeApp, tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with gateway(make_app, tmp_path, receiver) as (app, _):
            await app.publish([outgoing(report(JobStatus.COMPLETED, job="explain_first", at_ms=NOW_MS))])
            await until(lambda: len(receiver.got) == 1)
        other = make_app()
        async with other.running():
            await other.publish([outgoing(report(JobStatus.COMPLETED, job="explain_meanwhile", at_ms=NOW_MS))])
        async with gateway(make_app, tmp_path, receiver):
            await until(lambda: len(receiver.got) == 2)
    assert [json.loads(message.body)["data"]["explain_job_id"] for message in receiver.got] == ["explain_first", "explain_meanwhile"]


async def test_nobody_is_told_of_other_tenants_jobs_or_of_what_ended_before_the_receiver_was_named(make_app: MakeApp, tmp_path: Path) -> None:
    other = make_app()
    async with other.running():
        await other.publish([outgoing(report(JobStatus.COMPLETED, job="explain_before"))])
    async with receiving() as receiver, gateway(make_app, tmp_path, receiver) as (app, _):
        theirs = report(JobStatus.COMPLETED, job="explain.theirs_1", tenant="theirs", at_ms=NOW_MS)
        await app.publish([outgoing(theirs), outgoing(report(JobStatus.CANCELLED, job="explain_last", at_ms=NOW_MS))])
        await until(lambda: len(receiver.got) == 1)
    assert json.loads(receiver.got[0].body)["type"] == "job.cancelled"


async def test_messages_of_a_version_that_did_not_know_when_they_are_due_are_told(make_app: MakeApp, tmp_path: Path) -> None:
    path = tmp_path / "state" / "explain-webhooks.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as before, before:
        before.execute(
            "create table delivery(id text, receiver text, job text, tenant text, state text, made_ms bigint, tried_ms bigint, attempts bigint, body bytea, "
            "said text, primary key(id, receiver))"
        )
        before.execute("insert into delivery values('msg_1', 'r', 'explain_1', 'default', 'pending', ?, 1, 2, ?, null)", (time.time_ns() // 1_000_000, b"{}"))
    async with receiving(status(204)) as receiver, gateway(make_app, tmp_path, receiver) as (_, url):
        (delivery,) = await settled(url)
    assert (delivery["id"], delivery["state"], delivery["attempts"]) == ("msg_1", "accepted", 3)


async def test_a_receiver_that_is_gone_for_good_is_given_up_at_once(make_app: MakeApp, tmp_path: Path) -> None:
    async with receiving(status(410)) as receiver, gateway(make_app, tmp_path, receiver) as (app, url):
        await app.publish([outgoing(report(JobStatus.COMPLETED, at_ms=NOW_MS))])
        (delivery,) = await settled(url)
    assert (delivery["state"], delivery["attempts"]) == ("given up", 1)
    assert "410" in delivery["said"]


@pytest.mark.parametrize(("change", "said"), [({"networks": ("127.0.0.0/99",)}, "127.0.0.0/99"), ({"networks": ("nowhere",)}, "nowhere")])
def test_a_network_that_is_none_is_said_at_the_start(make_app: MakeApp, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    app = make_app()
    settings = with_receiver(app.settings, tmp_path, 1)
    app.settings = settings.model_copy(update={"webhooks": settings.webhooks.model_copy(update=change)})
    with pytest.raises(BadSettings, match=said):
        register(app)
