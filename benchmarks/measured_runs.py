"""Runs of the real services on this machine that the simulation is calibrated with, and others that it has to foretell.

Calibration: each service alone drains what the one before it wrote, so that its CPU for a feature is its own and nobody waits
for anybody. The runs to be foretold have all services at once, of other shapes, with other endpoints and other numbers of features.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner

from benchmarks.fleet import LANE, Fleet, cpu_of, distinct, fake_llm, make_topics, members, others_cpu, requests, settings_of
from chaos.checker import Call
from integration.real_kafka import RealKafka
from mistudio_explain.capacity.plan import LANE_NAME
from mistudio_explain.context.stage import event_id
from mistudio_explain.events import topics
from mistudio_explain.events.explanation import Subject
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.subscribers import partitions_of

SERVICES = ("context", "generation", "validation", "aggregator")
MAKES = {"context": LANE, "generation": topics.DRAFTS, "validation": topics.EXPLANATIONS}
"""The topic that tells how many features a service is done with; the aggregator's is the store."""
KEEP_UP = {"QUALITY__EXPLAIN_POOR": "true"}
_EVERY = (topics.FEATURES, topics.ADMISSIONS, LANE_NAME, topics.DRAFTS, topics.EXPLANATIONS)
_QUIET_S, _STILL = 1.5, 0.03
_LONGEST_S = 600.0
_RECORDS = 5  # that come of a feature: itself, its admission, prompt, draft and outcome


@dataclass(frozen=True, slots=True)
class Alone:
    """What each service used for a feature when it worked alone, seconds of one core; and bytes for a feature in each topic and in the store."""

    cpu_s: Mapping[str, float]
    broker_s: float
    """For each record written and read."""
    server_s: float
    """Of the fake model, for each call."""
    topic_bytes: Mapping[str, float]
    store_bytes: float


@dataclass(frozen=True, slots=True)
class Observed:
    """A run of all services."""

    seconds: float
    """From the publishing of the first feature to the last outcome."""
    calls: Sequence[Call]
    others: float
    """Cores that other programs had on average."""
    joined_s: float | None = None
    """From the beginning of the run to the first call of a worker that came later."""


def places(count: int, size: int, partitions: int) -> list[int]:
    """The lane's partition of each feature's prompt, by its key, as the producer places it."""
    where = DefaultPartitioner()
    subjects = (Subject.of(feature, None) for feature in distinct(count, size))
    return [where(event_id(subject, 1).encode(), list(range(partitions)), []) for subject in subjects]


def prompt_places(count: int, partitions: int) -> list[int]:
    """The same for prompts that are published without context's work (fleet.requests)."""
    where = DefaultPartitioner()
    return [where(request.event_id.encode(), list(range(partitions)), []) for request in requests(count)]


def calibrated(kafka: RealKafka, folder: Path, few: int, many: int, size: int) -> Alone:
    """What each feature beyond the first `few` takes: so starts, first uses and a broker that is still warming up count for nothing."""
    first, second = (_alone(kafka, folder / str(count), count, size) for count in (few, many))
    return Alone(*(_slope(before, after, many - few) for before, after in zip(first, second, strict=True)))  # type: ignore[arg-type]


def one_size(kafka: RealKafka, folder: Path, count: int, size: int) -> tuple[Mapping[str, float], float]:
    """Bytes for a feature of another size, by topic, and in the store."""
    _, _, _, topic_bytes, store = _alone(kafka, folder, count, size)
    return {topic: written / count for topic, written in topic_bytes.items()}, store["store"] / count


def _slope(before: Mapping[str, float], after: Mapping[str, float], features: int) -> float | dict[str, float]:
    each = {name: (after[name] - before[name]) / features for name in after}
    return each if len(each) > 1 else next(iter(each.values()))


def _alone(kafka: RealKafka, folder: Path, count: int, size: int) -> tuple[dict[str, float], ...]:
    """One service after the other on the same features, the model answering at once: what all took together, in the order of `Alone`."""
    kafka.delete_topics("mistudio.")
    asyncio.run(make_topics(settings_of(kafka.bootstrap)))
    broker, cpu = cpu_of(kafka.pid), {}
    asyncio.run(_publish(kafka, distinct(count, size)))
    with fake_llm(0.0) as llm:
        for service in SERVICES:
            with Fleet(folder / service, kafka.bootstrap, KEEP_UP) as fleet:
                replica, mine = fleet.start(service, service, llm.url(service)), cpu_of(os.getpid())
                assert replica.process is not None
                if service in MAKES:
                    asyncio.run(records_of(kafka, [MAKES[service]], count))
                _until_still(replica.process.pid)
                cpu[service] = cpu_of(replica.process.pid)
                if service == "generation":
                    server = cpu_of(os.getpid()) - mine
    store = sum(path.stat().st_size for path in (folder / "aggregator" / "state").glob("explain.db*"))
    return cpu, {"broker": (cpu_of(kafka.pid) - broker) / _RECORDS}, {"server": server}, _log_bytes(kafka), {"store": float(store)}


def whole(
    kafka: RealKafka, folder: Path, calls_s: Sequence[float], count: int, *, size: int = 6_000, lane_partitions: int = 12, late_s: float | None = None
) -> Observed:
    """All services; a worker for each of `calls_s`, the mean of its endpoint's calls, the last of which is started `late_s` after the features."""
    kafka.delete_topics("mistudio.")
    settings = settings_of(kafka.bootstrap, lane_partitions=lane_partitions)
    asyncio.run(make_topics(settings))
    with ExitStack() as stack:
        llms = {mean: stack.enter_context(fake_llm(mean, seed)) for seed, mean in enumerate(sorted(set(calls_s)))}
        fleet = stack.enter_context(Fleet(folder, kafka.bootstrap, {**KEEP_UP, "KAFKA__LANE_PARTITIONS": str(lane_partitions)}))
        urls = [llms[mean].url(f"worker-{number}") for number, mean in enumerate(calls_s)]
        there = len(urls) - (late_s is not None)
        for service in ("context", "validation", "aggregator"):
            fleet.start(service, service)
        for number, url in enumerate(urls[:there]):
            fleet.start("generation", f"worker-{number}", url)
        for service, many in (("context", 1), ("validation", 1), ("generation", there)):
            asyncio.run(members(settings, service, many))
        pids = [replica.process.pid for replica in fleet.replicas if replica.process is not None]
        with others_cpu([*pids, kafka.pid, os.getpid()]) as others:
            began = time.monotonic()
            asyncio.run(_publish(kafka, distinct(count, size)))
            if late_s is not None:
                time.sleep(max(0.0, began + late_s - time.monotonic()))
                fleet.start("generation", f"worker-{there}", urls[there])
            asyncio.run(records_of(kafka, [topics.EXPLANATIONS], count))
            ended = time.monotonic()
        calls = [call for llm in llms.values() for call in llm.calls if call.at >= began]
        late = [call.at for call in calls if call.worker == f"worker-{there}"]
        return Observed(ended - began, calls, others[0], min(late) - began if late_s is not None and late else None)


async def _publish(kafka: RealKafka, found: Iterable[FeatureFound]) -> None:
    settings = settings_of(kafka.bootstrap)
    async with KafkaClients(settings.kafka, settings.limits).producer({topics.FEATURES}) as producer:
        await publish(producer, [outgoing(feature) for feature in found])


async def records_of(kafka: RealKafka, wanted: Sequence[str], count: int) -> None:
    """Wait until some topics have so many records together."""
    consumer, deadline = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap), time.monotonic() + _LONGEST_S
    await consumer.start()
    try:
        partitions = await partitions_of(consumer, wanted)
        while (found := sum((await consumer.end_offsets(partitions)).values())) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{', '.join(wanted)}: {found} of {count} records after {_LONGEST_S:.0f} s")
            await asyncio.sleep(0.1)
    finally:
        await consumer.stop()


def _until_still(pid: int) -> None:
    """Wait until a process has hardly anything to do."""
    while True:
        before = cpu_of(pid)
        time.sleep(_QUIET_S)
        if cpu_of(pid) - before < _STILL * _QUIET_S:
            return


def _log_bytes(kafka: RealKafka) -> dict[str, float]:
    """Bytes of the records in the logs of each topic that every feature has one in."""
    sizes: dict[str, float] = dict.fromkeys(_EVERY, 0.0)
    for log in (kafka.folder / "data").glob("mistudio.*/*.log"):
        topic = log.parent.name.rpartition("-")[0].replace(LANE, LANE_NAME)
        if topic in sizes:
            sizes[topic] += log.stat().st_size
    return sizes
