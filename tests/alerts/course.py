"""The course of a recording: what is done to real services on a real Kafka, so that each alert has its reason once."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from alerts.recording import Fault, Recording, recorded
from alerts.upstream import CURSED, GOOD, Flow, Upstream, write_garbage
from chaos.fake_llm import MODEL, Character, FakeLlm
from chaos.readings import end_offsets
from chaos.wire import DRAFTS, FEATURES
from integration.real_kafka import RealKafka
from integration.real_prometheus import RealPrometheus
from integration.served import PROGRAM, Served, environment

QUICK = (sys.executable, "-m", "alerts.quick_lag")
PROCESSES = (("context",), ("generation",), ("validation",), ("redelivery",), ("aggregator", "replayer"))
ENDPOINT = "gpu0"
SLOTS = 4
_SETTINGS = {
    "KAFKA__PARTITIONS": "2",
    "KAFKA__SESSION_TIMEOUT_MS": "6000",
    "KAFKA__START_TIMEOUT_S": "0",
    "GENERATION__RETRY_WAIT_S": "0.1",
    "RETRY__SHORT_S": "1",
    "RETRY__LONG_S": "1",
    "RETRY__DEAD_LETTERS": "1000",
    "LLM__FIRST_TOKEN_TIMEOUT_S": "5",
    "LLM__DEADLINE_S": "10",
}
_GARBAGE = 1200
_PAST_S = 15.0
"""How long nothing is done at first, so that every figure has a past."""
_WELL_S = 45.0
"""How long nothing is done at last, so that every alert ends: the longest window that one of them waits for is 30 minutes."""
_PATIENCE_S = 120.0


@dataclass
class Course:
    """One run; `say` is told what happens."""

    kafka: RealKafka
    folder: Path
    rules: Path
    say: Callable[[str], None] = print
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.llm = FakeLlm(Character(1, latency_s=0.1, faulty=0.0, cursed=CURSED))
        self.began_s = 0.0

    @contextmanager
    def recording(self) -> Iterator[tuple[RealPrometheus, Callable[[frozenset[str]], Recording]]]:
        """Run the whole course; gives the Prometheus that has seen it, and what makes a recording of the metrics of some names."""
        with ExitStack() as stack:
            stack.enter_context(self.llm)
            settings = settings_of(self.kafka.bootstrap, self.llm, self.folder)
            self.environment = environment(settings)
            subprocess.run([*PROGRAM, "topics", "create"], env=self.environment, cwd=self.folder, check=True, capture_output=True, timeout=120)
            self.served = {names[0]: Served(names, settings, self.folder, QUICK) for names in PROCESSES}
            for each in self.served.values():
                stack.enter_context(each)
            for each in self.served.values():
                each.until_ready()
            targets = {name: f"127.0.0.1:{each.port}" for name, each in self.served.items()}
            self.prometheus = stack.enter_context(RealPrometheus(self.folder / "prometheus", targets, self.rules))
            self.upstream = stack.enter_context(Upstream(self.kafka.bootstrap))
            self.upstream.flow = GOOD
            self._until('sum(mistudio_explain_outcomes_total{outcome="explained"}) > 5', "mistudio_explain_lag_read_success == 1")
            self.began_s = time.time()
            _go_on(_PAST_S)
            with self._fault("AwayFast", "services are stopped, then Kafka is away", lasts_s=3):
                self._happen()
            self._until("min(mistudio_explain_ready) == 1", "mistudio_explain_lag_read_success == 1")
            self.say("all is well again")
            _go_on(_WELL_S)
            minutes = int(time.time() - self.began_s)

            def recording_of(names: frozenset[str]) -> Recording:
                scraped = self.prometheus.query(f'{{__name__=~"{"|".join(sorted(names))}"}}[{minutes + 5}s]')
                return recorded(scraped, self.began_s, minutes, self.faults)

            yield self.prometheus, recording_of

    def _happen(self) -> None:
        with self._fault("AwaySlow", "validation, then context, are stopped for some minutes each"):
            self._validation_away()
            self._context_away()
        with self._fault("DeadLetters", "a single record cannot be read", service="context", error="MalformedEvent"):
            asyncio.run(write_garbage(self.kafka.bootstrap, FEATURES, 1))
            _go_on(5)
        with (
            self._fault("FailuresFast", "most features have no text", lasts_s=3),
            self._fault("FailuresSlow", "most features have no text", lasts_s=3),
            self.upstream.flowing(Flow(bare=25.0)),
        ):
            self._until('sum(mistudio_explain_outcomes_total{outcome="failed"}) > 400')
        with self._fault("PartitionPaused", "a partition is full of what cannot be read", service="validation", topic=DRAFTS):
            asyncio.run(write_garbage(self.kafka.bootstrap, DRAFTS, _GARBAGE))
            self._until("min(mistudio_explain_paused_partitions) > 0")
            _go_on(4)
        subprocess.run([*PROGRAM, "dlq", "resume"], env=self.environment, cwd=self.folder, check=True, capture_output=True, timeout=60)
        self._until("max(mistudio_explain_paused_partitions) == 0")
        with (
            self._fault("EndpointOpen", "the LLM server is away", endpoint=ENDPOINT),
            self._fault("NothingMoves", "the LLM server is away", lasts_s=3, service="generation"),
        ):
            self.llm.go_away()
            self._until("mistudio_explain_breaker_state == 2")
            _go_on(25)
            self.llm.come_back()
        self._until("mistudio_explain_breaker_state == 0", 'sum(mistudio_explain_lag{service="generation"}) < 20')
        with (
            self._fault("CallsFail", "the model does not answer half of what it is asked", lasts_s=5, endpoint=ENDPOINT, kind="refusal"),
            self.upstream.flowing(Flow(good=2.0, cursed=2.0)),
        ):
            self._until('mistudio_explain_failed_calls_total{kind="refusal"} > 0')
            _go_on(25)
        with self._fault("LagUnknown", "Kafka is away", lasts_s=3), self.upstream.flowing(Flow()):
            self.kafka.kill()
            _go_on(20)
            self.kafka.start()

    def _validation_away(self) -> None:
        group = "mistudio-explain.validation"
        with self._fault("NobodyReads", "validation is stopped", consumergroup=group):
            self.served["validation"].stop()
            self._until(f'kafka_consumergroup_members{{consumergroup="{group}"}} == 0')
            _go_on(4)
            with self._fault("RecordsExpired", "retention takes what validation has not read", lasts_s=5, service="validation", topic=DRAFTS):
                asyncio.run(self._expire(DRAFTS))
                self._until("sum(mistudio_explain_lag_expired) > 0")
                _go_on(3)
        self.served["validation"].start()
        self.served["validation"].until_ready()

    def _context_away(self) -> None:
        late = "sum(mistudio_explain_feature_seconds_count) - sum(mistudio_explain_feature_seconds_bucket{le='900.0'})"
        with (
            self._fault("LateFast", "features of an hour ago are explained", lasts_s=5),
            self._fault("LateSlow", "features of an hour ago are explained", lasts_s=5),
            self.upstream.flowing(Flow(late=6.0)),
        ):
            self._until(f"{late} > 0")  # nothing of now is left before them
            with self._fault("OldestWaits", "features of an hour ago wait while context is stopped", service="context"):
                self.served["context"].stop()
                self._until('max(mistudio_explain_lag_oldest_unfinished_seconds{service="context"}) > 900')
                _go_on(7)
            self.served["context"].start()
            self.served["context"].until_ready()
            self._until(f"{late} > 100")

    @contextmanager
    def _fault(self, alert: str, what: str, *, lasts_s: int = 0, **labels: str) -> Iterator[None]:
        """Something is wrong; its alert may still begin to fire `lasts_s` after it has passed."""
        begin = self._minute()
        self.say(f"minute {begin}: {what}, for MistudioExplain{alert}")
        yield
        self.faults.append(Fault(f"MistudioExplain{alert}", labels, what, begin, self._minute() + lasts_s))

    def _minute(self) -> int:
        return int(time.time() - self.began_s)

    def _until(self, *conditions: str) -> None:
        """Wait until Prometheus sees something so."""
        deadline = time.monotonic() + _PATIENCE_S
        while not all(self.prometheus.query(each) for each in conditions):
            assert time.monotonic() < deadline, f"not so after {_PATIENCE_S:.0f} s: {' and '.join(conditions)}; logs in {self.folder}"
            time.sleep(0.2)

    async def _expire(self, topic: str) -> None:
        """Delete all that stands in a topic, as retention would."""
        ends = await end_offsets(self.kafka.bootstrap, topic)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        try:
            await admin.start()
            await admin.delete_records({TopicPartition(*tp): RecordsToDelete(before_offset=end) for tp, end in ends.items()})
        finally:
            await admin.close()


def settings_of(bootstrap: str, llm: FakeLlm, folder: Path) -> Mapping[str, str]:
    """Settings with short waits, as environment variables without the prefix."""
    endpoint = {"name": ENDPOINT, "provider": "openai", "url": llm.url("generation"), "models": [MODEL], "slots": SLOTS}
    return _SETTINGS | {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "LLM__ENDPOINTS": json.dumps([endpoint]),
        "STORE__URL": f"sqlite:///{folder}/state/explain.db",
        "REPORTS__DIRECTORY": str(folder / "reports"),
        "GATEWAY__PORT": "0",
    }


def _go_on(seconds: float) -> None:
    """Let what is so be so for a while: how long is what rules ask (`for`, ranges), and what is recorded; there is no condition to wait for."""
    time.sleep(seconds)
