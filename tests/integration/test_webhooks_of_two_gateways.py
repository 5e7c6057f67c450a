"""Two gateways on one real PostgreSQL share the telling of jobs' ends: one at a time tries a message, and one goes on with what the other left."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from integration.real_postgres import RealPostgres
from integration.receiver import Receiver, receiving, status
from integration.test_live_events import report
from integration.test_stream_app import MakeApp, make_app, until
from integration.test_webhooks import NOW_MS, settled, with_receiver
from mistudio_explain.events.job import JobStatus
from mistudio_explain.gateway import deliveries
from mistudio_explain.gateway.service import register, web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.deliveries import PENDING, Delivery, StoredDeliveries

__all__ = ["make_app"]  # fixture

on_the_embedded_broker = pytest.mark.parametrize("make_app", ["embedded"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(deliveries, "_LOOK_S", 0.2)


@pytest.fixture
def store(postgres: RealPostgres) -> StoreSettings:
    return postgres.new_store()


@pytest.fixture
async def two(
    make_app: MakeApp, store: StoreSettings, tmp_path: Path
) -> AsyncIterator[tuple[Receiver, Sequence[AsyncExitStack], Sequence[tuple[StreamApp, str]]]]:
    """A receiver that refuses everything at first, and two gateways that tell it, each with what ends it."""
    async with receiving(status(500)) as receiver, AsyncExitStack() as both:
        ends, gateways = [AsyncExitStack(), AsyncExitStack()], []
        for end in ends:
            await both.enter_async_context(end)
            app = make_app()
            app.settings = with_receiver(app.settings, tmp_path, receiver.port).model_copy(update={"store": store})
            web = register(app)
            address = await end.enter_async_context(web_server(web, app.settings.gateway))
            await end.enter_async_context(app.running())
            assert await web.state.gateway.live.begun(30) is not None
            gateways.append((app, f"{address}/api/v1/webhooks"))
        yield receiver, ends, gateways


Two = tuple[Receiver, Sequence[AsyncExitStack], Sequence[tuple[StreamApp, str]]]


@on_the_embedded_broker
async def test_each_attempt_is_made_by_one_of_them(two: Two) -> None:
    receiver, _, ((app, url), _) = two
    jobs = [f"explain_{number}" for number in range(6)]
    await app.publish([outgoing(report(JobStatus.COMPLETED, job=job, at_ms=NOW_MS)) for job in jobs])
    await until(lambda: len(receiver.got) > 30)
    receiver.answers = (status(204),)
    told = await settled(url)
    assert {each["state"] for each in told} == {"accepted"}
    assert sorted(each["explain_job_id"] for each in told) == jobs
    await asyncio.sleep(0)  # the receiver notes a message before it answers
    of = [json.loads(message.body)["data"]["explain_job_id"] for message in receiver.got]
    assert {each["explain_job_id"]: each["attempts"] for each in told} == {job: of.count(job) for job in jobs}


@on_the_embedded_broker
async def test_what_one_leaves_when_it_ends_the_other_goes_on_with(two: Two) -> None:
    receiver, (first, _), ((app, _), (_, url)) = two
    await app.publish([outgoing(report(JobStatus.COMPLETED, at_ms=NOW_MS))])
    await until(lambda: len(receiver.got) > 2)
    await first.aclose()
    before = len(receiver.got)
    await until(lambda: len(receiver.got) > before)
    receiver.answers = (status(204),)
    (told,) = await settled(url)
    assert (told["state"], told["attempts"]) == ("accepted", len(receiver.got))


def test_a_message_that_somebody_tries_is_nobody_elses_until_the_lease_is_over(store: StoreSettings) -> None:
    one, other = StoredDeliveries(store), StoredDeliveries(store)
    made = [Delivery(f"msg_{number}", "r", "explain_1", "default", PENDING, number, number, 0, None) for number in range(3)]
    assert [one.add(each, b"{}") for each in made] == [True, True, True]
    assert not other.add(made[0], b"{}")
    taken = [*one.take_due("r", 2, lease_ms=60_000), *other.take_due("r", 2, lease_ms=0)]
    assert [delivery.id for delivery, _ in taken] == ["msg_0", "msg_1", "msg_2"]
    assert [delivery.id for delivery, _ in one.take_due("r", 5, lease_ms=60_000)] == ["msg_2"], "whose lease is over"
    assert other.take_due("r", 5, lease_ms=60_000) == []
    other.tried(taken[0][0], again_in_ms=0)
    assert [delivery.id for delivery, _ in one.take_due("r", 5, lease_ms=60_000)] == ["msg_0"]
    assert one.take_due("another", 5, lease_ms=60_000) == []
