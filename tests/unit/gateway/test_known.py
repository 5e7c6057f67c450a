"""The jobs that a gateway knows from their topics, and from the orders that it has just given."""

import asyncio
from types import SimpleNamespace
from typing import Any

from mistudio_explain.events.job import ControlPart, JobEvent, RequestPart
from mistudio_explain.gateway.known import KnownJobs
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import Settings

JOB = "explain_1"


def known_jobs() -> KnownJobs:
    settings = Settings()
    return KnownJobs(StreamApp(settings, KafkaClients(settings.kafka, settings.limits, embedded="127.0.0.1:9")))


def requested(job: str = JOB, tenant: str = "default") -> JobEvent:
    return JobEvent(explain_job_id=job, tenant=tenant, at_ms=1, request=RequestPart(find_job_id="find_1"))


def ordered(action: str, revision: int = 0) -> JobEvent:
    return JobEvent(explain_job_id=JOB, revision=revision, at_ms=2, control=ControlPart.model_validate({"action": action}))


def read(jobs: KnownJobs, *events: JobEvent) -> None:
    """Let it read records, as the stream application hands them over."""
    records: list[Any] = []
    for number, event in enumerate(events):
        sent = outgoing(event)
        key = sent.key.encode() if isinstance(sent.key, str) else sent.key
        records.append(SimpleNamespace(topic=sent.topic, key=key, value=sent.value, timestamp=event.at_ms, partition=0, offset=number))
    asyncio.run(jobs._take(records))


def test_an_order_is_known_before_it_is_read_back_and_an_older_one_does_not_undo_it() -> None:
    jobs = known_jobs()
    read(jobs, requested())
    before = jobs.version
    jobs.ordered(ordered("reopen", revision=1))
    jobs.ordered(ordered("cancel", revision=0))
    known = jobs.get(JOB)
    assert known is not None
    assert known.control is not None
    assert (known.control.action, known.status) == ("reopen", "requested")
    assert jobs.version != before
    jobs.ordered(ordered("cancel", revision=1))
    assert jobs.of("default")[0].status == "cancelled"


def test_what_a_reader_in_another_thread_holds_does_not_change_under_it() -> None:
    jobs = known_jobs()
    read(jobs, requested())
    held = jobs.get(JOB)
    assert held is not None
    parts = held.parts
    read(jobs, ordered("cancel"))
    assert (len(parts), held.status) == (1, "requested")
    after = jobs.get(JOB)
    assert after is not None
    assert after.status == "cancelled"


def test_a_tenants_jobs_are_told_apart_from_others() -> None:
    jobs = known_jobs()
    read(jobs, requested(), requested("explain.acme_1", "acme"))
    assert [job.explain_job_id for job in jobs.of("default")] == [JOB]
    assert [job.explain_job_id for job in jobs.of("acme")] == ["explain.acme_1"]
