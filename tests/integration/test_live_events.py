"""Live events over HTTP, on the embedded broker and on real Kafka: nothing lost, nothing twice, and an end."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.aggregating import explained
from integration.gates import calling, gateway_app, gateway_settings, job_of, new_key, stored
from integration.sse_client import Events, listening
from integration.test_stream_app import MakeApp, make_app, until
from mistudio_explain.events import topics
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.gateway.live import Live
from mistudio_explain.gateway.service import register, web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.settings import GatewaySettings, StoreSettings

__all__ = ["make_app"]  # fixture

JOB = "explain_1"


def report(status: JobStatus = JobStatus.RUNNING, job: str = JOB, **changes: Any) -> JobReport:
    numbers = {"admitted": 9, "explained": 0, "skipped": 0, "failed": 0, "flagged": 0, "averages": Averages(), "at_ms": 1}
    return JobReport(explain_job_id=job, status=status, **numbers | changes)


@asynccontextmanager
async def gateway(make_app: MakeApp, folder: Path, **gateway: Any) -> AsyncIterator[tuple[StreamApp, str]]:
    """A gateway that runs on a port of its own over rows of job explain_1; its application publishes too."""
    app = make_app()
    app.settings = app.settings.model_copy(
        update={"store": StoreSettings(url=f"sqlite:///{folder}/state/explain.db"), "gateway": GatewaySettings(port=0, **gateway)}
    )
    stored(app.settings, job_of("default", JOB, features=[1]))
    web = register(app)
    async with web_server(web, app.settings.gateway) as address, app.running():
        live: Live = web.state.gateway.live
        assert await live.begun(30) is not None
        await until(lambda: live.away_because() is None)  # else it says first that it waits
        yield app, f"{address}/api/v1"


async def publish(app: StreamApp, features: Iterable[object], job: str = JOB) -> None:
    for feature in features:
        await app.publish([outgoing(explained(feature, job, find_job="find_1"))])


async def keys_until(events: Events, count: int) -> list[str]:
    keys = []
    while len(keys) < count:
        event = await events.next()
        if event.name == "explanation":
            keys.append(event.content["subject"]["feature_key"])
    return keys


async def test_a_job_is_followed_to_its_end_with_every_explanation_once(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/jobs/{JOB}/events?explanations=true") as events:
        assert [(await events.next()).name, (await events.next()).name] == ["ready", "progress"]
        await publish(app, range(2, 22))
        await publish(app, [99], job="explain_other")
        assert sorted(await keys_until(events, 20), key=int) == [str(number) for number in range(2, 22)]
        async with app.clients.consumer() as consumer:
            ends = await consumer.end_offsets(list(await partitions_of(consumer, (topics.EXPLANATIONS,))))
        await app.publish([outgoing(report(explained=20))])
        await app.publish([outgoing(report(JobStatus.COMPLETED, explained=21, as_of={str(tp.partition): end for tp, end in ends.items()}))])
        last = await events.until("end")
        assert [event.name for event in last] == ["progress", "progress", "end"]
        assert last[-1].content == {"status": "completed"}
        with pytest.raises(StopAsyncIteration):
            await events.next()


async def test_a_report_that_counts_what_was_not_sent_yet_does_not_end_the_stream_before_that_is_sent(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/jobs/{JOB}/events?explanations=true") as events:
        await events.until("progress")
        only = outgoing(explained("only", JOB, find_job="find_1"))
        unreadable = await app.producer.send_and_wait(topics.EXPLANATIONS, b"\xff", key=str(only.key).encode())
        await app.publish([outgoing(report(JobStatus.COMPLETED, as_of={str(unreadable.partition): 2}))])
        assert (await events.next()).name == "progress"
        await app.publish([only])
        assert [event.name for event in await events.until("end")] == ["explanation", "end"]


async def test_a_client_that_comes_back_gets_what_it_missed_once(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url):
        address = f"{url}/jobs/{JOB}/events?explanations=true"
        async with listening(address) as events:
            await events.until("progress")
            await publish(app, range(10))
            seen = await keys_until(events, 7)
            last = events.last_id
        await publish(app, range(10, 20))
        async with listening(address, headers={"Last-Event-ID": last or ""}) as events:
            rest = await keys_until(events, 13)
            await publish(app, [20])
            rest += await keys_until(events, 1)
        assert sorted(seen + rest, key=int) == [str(number) for number in range(21)]


async def test_another_gateway_goes_on_where_the_first_one_stopped(make_app: MakeApp, tmp_path: Path) -> None:
    """On the embedded broker, which has no ids and ends with its process, it says that everything must be read anew."""
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/jobs/{JOB}/events?explanations=true") as events:
        await events.until("progress")
        await publish(app, range(10))
        seen, last, embedded = await keys_until(events, 7), events.last_id, app.clients.is_embedded
        await publish(app, range(10, 15))
    async with gateway(make_app, tmp_path) as (app, url):
        async with listening(f"{url}/jobs/{JOB}/events?explanations=true", headers={"Last-Event-ID": last or ""}) as events:
            assert (await events.next()).name == "ready"
            if embedded:
                event = await events.next()
                assert (event.name, event.content["why"]) == ("reset", "the topics were made anew since the last event: read everything anew")
                assert event.id != last
                return
            rest = await keys_until(events, 8)
            await publish(app, range(15, 20))
            rest += await keys_until(events, 5)
        assert sorted(seen + rest, key=int) == [str(number) for number in range(20)]


async def test_all_jobs_are_followed_by_their_tenant_alone(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/events") as events:
        assert (await events.next()).name == "ready"
        await app.publish([outgoing(report(job="explain_theirs", tenant="theirs")), outgoing(report(job="explain_2"))])
        event = await events.next()
        assert (event.name, event.content["explain_job_id"]) == ("progress", "explain_2")


async def test_what_was_deleted_is_told_and_ends_the_stream(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/jobs/{JOB}/events?explanations=true") as events:
        await events.until("progress")
        await app.publish([Outgoing(topics.EXPLANATIONS, f"{JOB}|7", None)])
        feature = (await events.until("removed"))[-1]
        await app.publish([Outgoing(topics.REPORTS, JOB, None)])  # only now: topics are read beside each other
        *_, job, end = await events.until("end")
        assert (feature.content["feature_key"], job.name, job.content["feature_key"]) == ("7", "removed", None)
        assert end.content == {"status": "deleted"}


async def test_whoever_follows_all_jobs_hears_of_those_of_their_own_that_are_deleted(make_app: MakeApp, tmp_path: Path) -> None:
    async with gateway(make_app, tmp_path) as (app, url), listening(f"{url}/events") as events:
        assert (await events.next()).name == "ready"
        await app.publish([Outgoing(topics.REPORTS, "explain.theirs_1", None), Outgoing(topics.REPORTS, "explain_2", None)])
        event = await events.next()
        assert (event.name, event.content) == ("removed", {"explain_job_id": "explain_2", "feature_key": None})


async def test_another_tenants_job_is_no_job(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path)
    stored(settings, job_of("theirs", "explain.theirs_1"))
    answer = calling(gateway_app(settings), new_key(settings, tenant="ours")).get("/api/v1/jobs/explain.theirs_1/events")
    assert answer.status_code == 404


@pytest.mark.parametrize("text", ["7", "x" * 5000, "0123abcd.1.2\x00", "0123abcd.9999999999999999999999.1"])
async def test_an_id_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    answer = calling(gateway_app(gateway_settings(tmp_path))).get("/api/v1/events", params={"after": text})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:mistudio-explain:problem:bad-input"
