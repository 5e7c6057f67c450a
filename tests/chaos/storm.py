"""Lets a scenario happen to all services on a real Kafka, and hands what came of it to the checker; nobody helps."""

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checker import Finding, Found, Poison, check, repeats
from chaos.fake_llm import Character, FakeLlm
from chaos.inputs import Fate, Job, Key, fates, make_jobs
from chaos.plan import Event, Fault, Scenario, draw
from chaos.poison import Kind, administer
from chaos.readings import read_all, read_topics, topics_that_begin
from chaos.wire import LANES, REPORTS, decode
from chaos.world import Publishing, World
from integration.real_kafka import RealKafka

SESSION_S = 6.0  # the broker's own least session
SETTINGS = {
    "KAFKA__SESSION_TIMEOUT_MS": str(int(SESSION_S * 1000)),
    "KAFKA__START_TIMEOUT_S": "0",
    "LLM__FIRST_TOKEN_TIMEOUT_S": "5",
    "LLM__TOKEN_TIMEOUT_S": "5",
    "LLM__DEADLINE_S": "15",
    "GENERATION__RETRY_WAIT_S": "0.2",
    "RETRY__SHORT_S": "1",
    "RETRY__LONG_S": "3",
    "RETRY__DEAD_LETTERS": "100000",  # a paused partition waits for a person, and there is none
    "LIMITS__EXPRESS_FEATURES": "10",
    "LIMITS__GRACE_S": "10",
    "LIMITS__DEAD_LETTER_BYTES": str(4 << 20),  # an oversized record does not fit into its dead letter whole
    "REPORTS__INTERVAL_S": "1",
}
_TICK_S = 0.05
_PAUSE_S = 0.4  # between faults that are due at once: a process must have begun before it can be killed in the middle
_TAKEOVER_S = 30.0
_SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Kill:
    """The death of a worker: what it had in flight at the model, and seconds until calls came again, where any were awaited."""

    name: str
    at: float
    in_flight: int
    started_s: float | None
    """Until its successor first spoke to the model's server."""
    recovered_s: float | None
    """Until its successor's first call."""


@dataclass
class Result:
    """What came of a run."""

    scenario: Scenario
    seed: int
    features: int
    findings: list[Finding]
    found: Found
    poison: Mapping[str, Poison]
    fates: Mapping[Key, Fate]
    happened: Mapping[str, int]
    generation_kills: list[Kill]
    repeats_of_kills: list[int]
    repeats_of_others: int
    takeovers_s: list[float]
    exits: Mapping[str, list[int]]
    stop_codes: Mapping[str, int]
    wall_s: float
    statuses: list[str]
    """Every status that a report had, other than running and completed."""


@dataclass
class Storm:
    """One run."""

    scenario: Scenario
    seed: int
    kafka: RealKafka
    folder: Path
    say: Callable[[str], None] = print
    happened: dict[str, int] = field(default_factory=dict)

    def run(self) -> Result:
        """Publish, let everything happen, wait until all jobs are completed, check, stop."""
        self.began = time.monotonic()
        self.jobs: list[Job] = make_jobs(self.folder / "input", self.scenario.counts)
        rng = random.Random(f"{self.seed} run")
        explained = sorted(fate.word for fate in fates(self.jobs).values() if fate.outcome == "explained")
        cursed = frozenset(rng.sample(explained, self.scenario.cursed))
        self.fates = fates(self.jobs, cursed)
        self.wanted = sum(fate.outcome == "explained" for fate in self.fates.values())
        self.rng = rng
        self.poison: dict[str, Poison] = {}
        self.kills: list[tuple[str, float, int]] = []
        self.takeovers: list[float] = []
        self.thaw_at: dict[str, float] = {}
        self.heal_at = 0.0
        self.troubled: list[tuple[float, float]] = []
        self.publishing: list[Publishing] = []
        with FakeLlm(Character(self.seed, self.scenario.latency_s, self.scenario.faulty, cursed)) as self.llm:
            self.world = World(self.folder, self.kafka.bootstrap, self.llm, SETTINGS | dict(self.scenario.settings), self.scenario.slots)
            try:
                self.world.start()
                self.publishing += [self.world.publish(job.path) for job in self.jobs]
                for event in draw(self.scenario, self.seed, [replica.name for replica in self.world.replicas]):
                    self._until(lambda at=event.at: self.llm.answered >= at * self.wanted)  # type: ignore[misc]
                    self._happen(event)
                    self._let_pass(_PAUSE_S)
                self._until(lambda: not self.thaw_at and not self.heal_at and all(each.is_done() for each in self.publishing))
                self._until(self._all_completed)
                found, findings = self._settled()
            finally:
                for name in list(self.thaw_at):
                    self.world.named(name).send(signal.SIGCONT)
                codes = self.world.stop()
            return self._result(found, findings, codes, time.monotonic() - self.began)

    def _happen(self, event: Event) -> None:
        self.say(f"{time.monotonic() - self.began:5.0f} s, {self.llm.answered:5} of {self.wanted} answered: {event}")
        self.happened[event.fault] = self.happened.get(event.fault, 0) + 1
        match event.fault:
            case Fault.KILL:
                self._kill(event.target)
            case Fault.ABSENCE:
                self._leave_dead(event.target)
            case Fault.FREEZE:
                self._freeze(event.target, event.seconds)
            case Fault.BROKER_KILL:
                self._broker(self.kafka.kill)
            case Fault.BROKER_RESTART:
                self._broker(self.kafka.stop)
            case Fault.LLM_AWAY | Fault.LLM_SICK | Fault.LLM_STUCK:
                self._trouble(event.fault, event.seconds)
            case Fault.POISON:
                self._poison(event)
            case Fault.PUBLISH_AGAIN:
                self.publishing.append(self.world.publish(self.jobs[0].path))

    def _kill(self, name: str) -> None:
        self.thaw_at.pop(name, None)
        self.kills.append((name, time.monotonic(), len(self.llm.in_flight(name))))
        self.world.kill(name)

    def _leave_dead(self, name: str) -> None:
        self.thaw_at.pop(name, None)
        waiting, at = set(self.llm.in_flight(name)), time.monotonic()
        self.kills.append((name, at, len(waiting)))
        self.world.kill(name, comes_back=False)

        def taken_over() -> float | None:
            return next((call.at for call in list(self.llm.calls) if call.at > at and call.word in waiting), None)

        while waiting and taken_over() is None and time.monotonic() < at + _TAKEOVER_S:
            self._let_pass(_TICK_S)
        if (again := taken_over()) is not None:
            self.takeovers.append(again - at)
        self.world.bring_back(name)

    def _freeze(self, name: str, seconds: float) -> None:
        if self.world.named(name).is_running and name not in self.thaw_at:
            self.world.named(name).send(signal.SIGSTOP)
            self.thaw_at[name] = time.monotonic() + seconds

    def _broker(self, end: Callable[[], None]) -> None:
        since = time.monotonic()
        end()
        self.kafka.start()
        self.troubled.append((since, time.monotonic() + SESSION_S))

    def _trouble(self, fault: Fault, seconds: float) -> None:
        self._until(lambda: not self.heal_at)
        if fault is Fault.LLM_AWAY:
            self.llm.go_away()
        self.llm.is_sick = fault is Fault.LLM_SICK
        self.llm.is_stuck = fault is Fault.LLM_STUCK
        self.heal_at = time.monotonic() + seconds
        self.troubled.append((time.monotonic(), self.heal_at + 30.0))

    def _heal(self) -> None:
        if self.llm.is_sick or self.llm.is_stuck:
            self.llm.is_sick = self.llm.is_stuck = False
        else:
            self.llm.come_back()
        self.heal_at = 0.0

    def _poison(self, event: Event) -> None:
        victims = sorted(key for key, fate in self.fates.items() if fate.outcome == "explained")

        async def write() -> Mapping[str, Poison]:
            lanes = await topics_that_begin(self.kafka.bootstrap, LANES)
            return await administer(self.kafka.bootstrap, event.doses, self.rng, victims, lanes)

        self.poison |= asyncio.run(write())

    def _let_pass(self, seconds: float) -> None:
        """Go on for a while, with everything that is due in it."""
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for name in [name for name, due in self.thaw_at.items() if due <= now]:
                del self.thaw_at[name]
                self.world.named(name).send(signal.SIGCONT)
            if self.heal_at and self.heal_at <= now:
                self._heal()
            self.world.tend()
            if now >= until:
                return
            time.sleep(min(_TICK_S, until - now))

    def _until(self, condition: Callable[[], bool]) -> None:
        """Go on until something is so, or until nothing has moved for so long that it will not come."""
        moved, calls = time.monotonic(), -1
        while not condition():
            self._let_pass(_TICK_S)
            if len(self.llm.calls) != calls or self.heal_at:
                moved, calls = time.monotonic(), len(self.llm.calls)
            if time.monotonic() - moved > self.scenario.patience_s:
                self.say(f"nothing has moved for {self.scenario.patience_s:.0f} s")
                return

    def _all_completed(self) -> bool:
        self._let_pass(0.5)
        reports = [record for record in asyncio.run(read_topics(self.kafka.bootstrap, [REPORTS])) if record.value]
        last = {record.key: decode(record.value, "JobReport")["status"] for record in reports}
        return all(last.get(job.explain_job_id.encode()) == "completed" for job in self.jobs)

    def _settled(self) -> tuple[Found, list[Finding]]:
        """Look until nothing is found: reports follow their last outcome, and dead letters their poison, within seconds."""
        deadline = time.monotonic() + _SETTLE_S
        unreadable = {place for place, each in self.poison.items() if each.kind == Kind.NAME_NOT_UTF8}
        while True:
            topics = asyncio.run(read_all(self.kafka.bootstrap, self.world.reports, [job.explain_job_id for job in self.jobs], unreadable))
            found = Found(topics.records, topics.files, list(self.llm.calls))
            findings = check(self.fates, self.poison, found)
            if not findings or time.monotonic() > deadline:
                return found, findings
            self._let_pass(2.0)

    def _result(self, found: Found, findings: list[Finding], codes: Mapping[str, int], wall_s: float) -> Result:
        generation = [(name, at, waiting) for name, at, waiting in self.kills if name.startswith("generation")]
        of_kills, of_others = repeats(found.calls, [(name, at) for name, at, _ in generation])
        statuses = [decode(record.value, "JobReport")["status"] for record in found.records if record.topic == REPORTS and record.value]
        return Result(
            scenario=self.scenario,
            seed=self.seed,
            features=len(self.fates),
            findings=findings,
            found=found,
            poison=self.poison,
            fates=self.fates,
            happened=self.happened,
            generation_kills=[self._recovery(found, *kill) for kill in generation],
            repeats_of_kills=of_kills,
            repeats_of_others=of_others,
            takeovers_s=self.takeovers,
            exits={replica.name: replica.exits for replica in self.world.replicas if replica.exits},
            stop_codes=codes,
            wall_s=wall_s,
            statuses=sorted(set(statuses) - {"running", "completed"}),
        )

    def _recovery(self, found: Found, name: str, at: float, in_flight: int) -> Kill:
        """How long a killed worker took to work again; unknown where it had no work, or where Kafka or the model was away too."""
        ends = min((later for worker, later, _ in self.kills if worker == name and later > at), default=float("inf"))
        started = next((seen for seen in sorted(self.llm.first_seen.get(name, ())) if at < seen < ends), None)
        called = min((call.at for call in found.calls if call.worker == name and started is not None and started < call.at < ends), default=None)
        if not in_flight or started is None or called is None or any(since < called and at < until for since, until in self.troubled):
            return Kill(name, at, in_flight, None, None)
        return Kill(name, at, in_flight, started - at, called - at)


def explained_letters(result: Result) -> tuple[int, int]:
    """Dead letters of poison or of features that must fail, and all of them."""
    letters = {record.key for record in result.found.records if record.topic.endswith(".dlq") and record.value}
    return len(letters) - sum(finding.kind == "unexplained dead letter" for finding in result.findings), len(letters)


def run(scenario: Scenario, seed: int, kafka: RealKafka, folder: Path, say: Callable[[str], None] = print) -> Result:
    """Run a scenario on a Kafka that has none of the product's topics."""
    shutil.rmtree(folder, ignore_errors=True)  # rows and reports of an earlier run would be taken for this one's
    folder.mkdir(parents=True)
    return Storm(scenario, seed, kafka, folder, say).run()


__all__: Sequence[str] = ("Result", "Storm", "explained_letters", "run")
