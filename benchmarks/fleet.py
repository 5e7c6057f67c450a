"""Real services in processes of their own on a real Kafka, each generation worker with an endpoint of its own in a fake fleet."""

import asyncio
import json
import math
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.requests import features, request_of
from chaos.checker import Call
from chaos.fake_llm import ANSWERED, MODEL, Character, FakeLlm
from chaos.world import Replica
from mistudio_explain.context.lane import own_lane
from mistudio_explain.events.explanation import ExplanationRequested, Message
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.topics import lane_spec, topic_specs
from mistudio_explain.settings import KafkaSettings, Settings

LANE = own_lane("bench-model")
SLOTS = 8
_SIGMA = 0.5  # of the fake model's log-normal latency
_STOP_S = 30.0
_JOIN_S = 60.0
_SETTLE_S = 2.0  # from the last member's join until all have what they are assigned


def fake_llm(mean_s: float, seed: int = 1) -> FakeLlm:
    """Endpoints that take `mean_s` for a call on average, log-normal, however many come at once."""
    return FakeLlm(Character(seed, latency_s=mean_s / math.exp(_SIGMA**2 / 2), faulty=0.0))


def word_of(number: int) -> str:
    """A word that the fake model notes, and that no other feature has: without it prompts would repeat, and be answered from the store."""
    return f"zq{chr(97 + number // 100_000)}{number % 100_000:05d}q"


def distinct(count: int, size: int) -> Iterator[FeatureFound]:
    """Features each of whose texts has the feature's word."""
    for number, feature in enumerate(features(count, size)):
        told = [each.model_copy(update={"text": f"{word_of(number)} {each.text}"}) for each in feature.top_activations]
        yield feature.model_copy(update={"top_activations": told})


def requests(count: int, size: int = 6_000) -> Iterator[ExplanationRequested]:
    """Requests that are told apart by the word of their prompt."""
    for number, feature in enumerate(features(count, size)):
        request, word = request_of(feature), word_of(number)
        said = [Message(role="user", content=f"What do these texts have in common? {word}")]
        yield request.model_copy(update={"prompt": request.prompt.model_copy(update={"messages": said, "sha256": word})})


@dataclass
class Fleet:
    """Processes of the product, against one Kafka; stopped at the end of the context."""

    folder: Path
    bootstrap: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables without the prefix."""
    slots: int = SLOTS
    replicas: list[Replica] = field(default_factory=list)

    def __enter__(self) -> "Fleet":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            if replica.is_running:
                replica.send(signal.SIGTERM)
        for replica in self.replicas:
            if replica.process is not None:
                try:
                    replica.process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    replica.kill()

    def start(self, service: str, name: str, url: str | None = None, model: str = MODEL) -> Replica:
        """Start a service; `url` and `model` are the endpoint of a generation worker."""
        endpoint = [] if url is None else [{"name": name, "provider": "openai", "url": url, "models": [model], "slots": self.slots}]
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "LLM__ENDPOINTS": json.dumps(endpoint),
            "STORE__URL": f"sqlite:///{self.folder}/state/{name if service == 'generation' else 'explain'}.db",
            "REPORTS__DIRECTORY": str(self.folder / "reports"),
            **self.settings,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MISTUDIO_EXPLAIN_")}
        replica = Replica(service, name, inherited | {f"MISTUDIO_EXPLAIN_{key}": value for key, value in settings.items()}, self.folder)
        replica.start()
        self.replicas.append(replica)
        return replica

    def cpu_s(self, service: str) -> float:
        """CPU seconds that a service's processes have used until now."""
        return sum(cpu_of(replica.process.pid) for replica in self.replicas if replica.service == service and replica.process is not None)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process until now."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def settings_of(bootstrap: str, **kafka: int) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap, **kafka))


async def make_topics(settings: Settings) -> None:
    """All topics, and the lane of the benchmarks' target model."""
    async with KafkaClients(settings.kafka, settings.limits).admin() as admin:
        await create_topics(admin, [*topic_specs(settings), lane_spec(LANE, settings)], None)


async def members(settings: Settings, service: str, count: int) -> None:
    """Wait until a service's group has so many members and all have their partitions."""
    async with KafkaClients(settings.kafka, settings.limits).admin() as admin:
        reader, deadline = LagReader(admin), time.monotonic() + _JOIN_S
        while sum(group.members for group in (await reader.offsets()).groups if group.service == service) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{service} has not {count} members after {_JOIN_S:.0f} s; its logs are beside its state")
            await asyncio.sleep(0.2)
    await asyncio.sleep(_SETTLE_S)


async def publish_requests(settings: Settings, wanted: Iterable[ExplanationRequested]) -> None:
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    async with app.running():
        await app.ensure_lane(LANE)
        await app.publish(outgoing(request, topic=LANE) for request in wanted)


async def until(answered: FakeLlm, count: int, timeout_s: float) -> None:
    """Wait until so many different features have an answer."""
    deadline = time.monotonic() + timeout_s
    while answered.answered < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{answered.answered} of {count} features had an answer after {timeout_s:.0f} s")
        await asyncio.sleep(0.05)


def busy_share(calls: Sequence[Call], workers: Iterable[str], since: float, to: float, slots: int = SLOTS) -> float:
    """The share of some workers' slots in which a call ran, over a time."""
    wanted = set(workers)
    ran = sum(max(0.0, min(call.until, to) - max(call.at, since)) for call in calls if call.worker in wanted)
    return ran / (slots * len(wanted) * (to - since))


def drained_s(calls: Sequence[Call]) -> float:
    """Seconds from the first call to the last answer."""
    answers = [call for call in calls if call.word]
    return max(call.until for call in answers) - min(call.at for call in answers)


def repeated(calls: Sequence[Call]) -> int:
    """Calls beyond the one that each feature needs."""
    made = Counter(call.word for call in calls if call.word)
    return sum(made.values()) - len(made)


def answers_a_second(calls: Sequence[Call], since: float, to: float) -> float:
    return sum(1 for call in calls if call.ending == ANSWERED and call.word and since <= call.until < to) / (to - since)


@contextmanager
def others_cpu(own: Iterable[int]) -> Iterator[list[float]]:
    """While the context lasts: how many of this machine's cores other programs had on average; one number, there at its end."""
    pids = list(own)
    found: list[float] = []
    before, own_before, started = _busy_s(), sum(map(cpu_of, pids)), time.monotonic()
    yield found
    passed = time.monotonic() - started
    found.append(max(0.0, (_busy_s() - before - (sum(map(cpu_of, pids)) - own_before)) / passed))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))
