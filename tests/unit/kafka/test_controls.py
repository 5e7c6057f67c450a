"""Orders about jobs, as services follow them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from mistudio_explain.events.codec import encode
from mistudio_explain.events.job import ControlPart, JobEvent, SealedPart
from mistudio_explain.events.topics import JOBS
from mistudio_explain.kafka.controls import JobControls

JOB = "explain_1"


class Topic:
    """Stands in for the application: hands records to whoever follows the topic."""

    def __init__(self) -> None:
        self._follow: Callable[[Sequence[ConsumerRecord]], Awaitable[None]] | None = None

    def whole(self, *_: str, service: str) -> Callable[[Any], Any]:
        def register(follow: Any) -> Any:
            self._follow = follow
            return follow

        return register

    async def write(self, key: str, event: JobEvent | None) -> None:
        assert self._follow is not None
        value = None if event is None else encode(event)
        await self._follow([ConsumerRecord(JOBS, 0, 0, 0, 0, key.encode(), value, 0, 0, 0, ())])

    async def order(self, action: str, revision: int = 0) -> None:
        await self.write(f"{JOB}|control", JobEvent(explain_job_id=JOB, revision=revision, at_ms=0, control=ControlPart.model_validate({"action": action})))


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def controls(topic: Topic) -> JobControls:
    return JobControls(topic)  # type: ignore[arg-type]


async def test_an_order_is_about_its_revision_and_earlier_ones(topic: Topic, controls: JobControls) -> None:
    assert not controls.is_stopped(JOB, 0)
    await topic.order("cancel", revision=1)
    assert [controls.is_stopped(JOB, revision) for revision in (0, 1, 2)] == [True, True, False]
    assert not controls.is_deleted(JOB, 1)
    assert not controls.is_stopped("explain_2", 0)


async def test_a_reopened_job_goes_on(topic: Topic, controls: JobControls) -> None:
    await topic.order("cancel")
    await topic.order("reopen", revision=1)
    assert not controls.is_stopped(JOB, 1)
    await topic.order("cancel")  # an old order that lands late
    assert not controls.is_stopped(JOB, 1)


@pytest.mark.parametrize("action", ["delete", "deleted"])
async def test_a_deleted_job_is_stopped_until_its_record_is_gone(topic: Topic, controls: JobControls, action: str) -> None:
    await topic.order(action)
    assert controls.is_deleted(JOB, 0)
    assert controls.is_stopped(JOB, 0)
    await topic.write(f"{JOB}|control", None)
    assert not controls.is_stopped(JOB, 0)


async def test_other_parts_and_garbage_change_nothing(topic: Topic, controls: JobControls) -> None:
    await topic.order("cancel")
    await topic.write(f"{JOB}|sealed", JobEvent(explain_job_id=JOB, at_ms=0, sealed=SealedPart(expected=3)))
    await topic.write(f"{JOB}|sealed", None)
    assert controls.is_stopped(JOB, 0)


async def test_work_of_a_job_is_cut_off_when_it_is_cancelled_and_other_work_is_not(topic: Topic, controls: JobControls) -> None:
    let = asyncio.Event()

    async def work() -> str:
        await let.wait()
        return "done"

    cut = asyncio.create_task(controls.unless_stopped(JOB, 0, work()))
    reopened = asyncio.create_task(controls.unless_stopped("explain_2", 0, work()))
    await asyncio.sleep(0)
    await topic.order("cancel")
    assert await cut is None
    let.set()
    assert await reopened == "done"
    assert await controls.unless_stopped(JOB, 0, work()) is None
    assert await controls.unless_stopped(JOB, 1, work()) == "done"


async def test_an_order_cuts_off_no_work_of_a_later_revision(topic: Topic, controls: JobControls) -> None:
    let = asyncio.Event()

    async def work() -> str:
        await let.wait()
        return "done"

    reopened = asyncio.create_task(controls.unless_stopped(JOB, 1, work()))
    await asyncio.sleep(0)
    await topic.order("cancel", revision=0)  # it is read late
    let.set()
    assert await reopened == "done"


async def test_a_worker_that_loses_its_partition_is_no_cancelled_job(topic: Topic, controls: JobControls) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(controls.unless_stopped(JOB, 0, work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
