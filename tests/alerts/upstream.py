"""Publishes features while a recording runs, some of which cannot be explained, or come late."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer

from chaos.wire import FEATURES, ROOT
from mistudio_explain.events.codec import encode
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.intake.stage import read

MODELS = ("openai-community/gpt2", "google/gemma-2-2b")
CURSED = frozenset(f"zqx{number:05}q" for number in range(2000))
"""Words of features that the model never answers usably."""
LATE_S = 3600.0
_TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class Flow:
    """Features a second of each kind: such as can be explained, without a text, that get no usable answer, and that were published an hour ago."""

    good: float = 0.0
    bare: float = 0.0
    cursed: float = 0.0
    late: float = 0.0


GOOD = Flow(good=4.0)


class Upstream:
    """A find job without end, in a thread of its own; `flow` may be set at any time."""

    def __init__(self, bootstrap: str) -> None:
        self.flow = Flow()
        self._bootstrap = bootstrap
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def flowing(self, flow: Flow) -> Iterator[None]:
        """Another flow for a while."""
        before, self.flow = self.flow, flow
        try:
            yield
        finally:
            self.flow = before

    async def _publish(self) -> None:
        owed = dict.fromkeys(("good", "bare", "cursed", "late"), 0.0)
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap) as producer:
            while not self._ended.is_set():
                for kind in owed:
                    owed[kind] += getattr(self.flow, kind) * _TICK_S
                    for _ in range(int(owed[kind])):
                        value = encode(feature(next(self._numbers), kind))
                        at_ms = int(1000 * (time.time() - LATE_S)) if kind == "late" else None
                        await producer.send(FEATURES, value, key=b"alerts", timestamp_ms=at_ms)
                    owed[kind] %= 1
                await asyncio.sleep(_TICK_S)


async def publish(bootstrap: str, features: Iterable[FeatureFound]) -> None:
    """Features, once."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for each in features:
            await producer.send(FEATURES, encode(each), key=b"alerts")


async def write_garbage(bootstrap: str, topic: str, count: int) -> None:
    """Records that no service can read, on one partition."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for _ in range(count):
            await producer.send(topic, b"garbage", partition=0)


def feature(number: int, kind: str) -> FeatureFound:
    """A real feature under another number, with a word in its texts that no other has."""
    real = _real()[number % len(_real())]
    word = f"zq{'x' if kind == 'cursed' else 'a'}{number % 100_000:05}q"
    if kind == "cursed":
        word = f"zqx{number % len(CURSED):05}q"
    texts = [activation.model_copy(update={"text": f"{activation.text} {word}"}) for activation in real.top_activations]
    changed: Mapping[str, object] = {
        "find_job_id": "find_alerts",
        "target_model": MODELS[number % len(MODELS)],
        "feature_id": str(number),
        "coherence_score": 0.2 if number % 20 == 19 and kind == "good" else 0.6,
        "pattern_keywords": [word, *real.pattern_keywords],
        "top_activations": [] if kind == "bare" else texts,
    }
    return real.model_copy(update=changed)


@cache
def _real() -> list[FeatureFound]:
    return list(read(ROOT / "examples" / "gpt2-small" / "feature_analysis.json").features())
