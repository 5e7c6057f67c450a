"""Lets a scenario happen to all services on a real Kafka, and hands what came of it to the checker; nobody helps."""

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checker import Finding, Found, Poison, check, repeats
from chaos.fake_llm import Character, FakeLlm
from chaos.inputs import Fate, Job, Key, fates, make_jobs
from chaos.plan import Event, Fault, Scenario, draw
from chaos.poison import Kind, administer
from chaos.readings import end_offsets, members, read_all, read_topics, topics_that_begin
from chaos.wire import LANES, OURS, REPORTS, decode
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
GENERATION = "mistudio-explain.generation"
_TICK_S = 0.05
_PAUSE_S = 0.4  # between faults that are due at once: a process must have begun before it can be killed in the middle
_TAKEOVER_S = 30.0
_CALM_S = 45.0
_CALM_SLOWNESS = 10.0
_SETTLE_S = 60.0
_STILL_S = 5.0
"""How long nothing is written before a run is over; longer than the longest wait of a redelivery."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the death of a worker until its successor first spoke to the model's server, and until its first call."""

    started_s: float
    called_s: float


@dataclass(frozen=True, slots=True)
class Takeover:
    """Seconds from the death of a worker until another had its partitions, and until that one called for a feature the dead one had in flight.

    Between the two, it goes on with what it had waiting in front; its slots are busy all the time.
    """

    owned_s: float
    called_s: float


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
    in_flight_at_kills: list[int]
    """Calls that the model's server had open from each generation worker when it was killed."""
    repeats_of_kills: list[int]
    repeats_of_others: int
    recoveries: list[Recovery]
    takeovers: list[Takeover]
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
        """Publish, let everything happen, wait until all jobs are completed and nothing moves, stop, check what is left."""
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
        self.recoveries: list[Recovery] = []
        self.takeovers: list[Takeover] = []
        self.thaw_at: dict[str, float] = {}
        self.heal_at = 0.0
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
                self._settle()
            finally:
                for name in list(self.thaw_at):
                    self.world.named(name).send(signal.SIGCONT)
                codes = self.world.stop()
            found, findings = self._look()
            return self._result(found, findings, codes, time.monotonic() - self.began)

    def _happen(self, event: Event) -> None:
        self.say(f"{time.monotonic() - self.began:5.0f} s, {self.llm.answered:5} of {self.wanted} answered: {event}")
        self.happened[event.fault] = self.happened.get(event.fault, 0) + 1
        match event.fault:
            case Fault.KILL:
                self._kill(event.target)
            case Fault.TIMED_KILL:
                self._time_recovery(event.target)
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

    def _time_recovery(self, name: str) -> None:
        with self._calm():
            self._kill_timed(name)

    def _kill_timed(self, name: str) -> None:
        at = time.monotonic()
        self._kill(name)
        self._pass_until(lambda: self._recovered(name, at) is not None or self.llm.answered >= self.wanted, _TAKEOVER_S)
        if (recovered := self._recovered(name, at)) is not None:
            self.recoveries.append(recovered)

    def _recovered(self, name: str, at: float) -> Recovery | None:
        """When the successor of a worker killed at a moment has made its first call."""
        started = next((seen for seen in self.llm.first_seen.get(name, ()) if seen > at), None)
        called = None if started is None else next((call.at for call in list(self.llm.calls) if call.worker == name and call.at > started), None)
        return None if started is None or called is None else Recovery(started - at, called - at)

    def _leave_dead(self, name: str) -> None:
        with self._calm():
            pass  # from now on at its usual speed: the one that takes over has its own work in front
        waiting, at = set(self.llm.in_flight(name)), time.monotonic()
        self.kills.append((name, at, len(waiting)))
        self.world.kill(name, comes_back=False)

        def called_again() -> float | None:
            return next((call.at for call in list(self.llm.calls) if call.at > at and call.word in waiting), None)

        owned: list[float] = []

        def is_over() -> bool:
            if not owned and asyncio.run(members(self.kafka.bootstrap, GENERATION)) == 1:
                owned.append(time.monotonic())
            return bool(owned) and called_again() is not None

        if waiting:
            self._pass_until(is_over, _TAKEOVER_S)
        if owned and (again := called_again()) is not None:
            self.takeovers.append(Takeover(owned[0] - at, again - at))
        self.world.bring_back(name)

    @contextmanager
    def _calm(self) -> Iterator[None]:
        """A moment in which nothing is frozen or away and every worker has calls in flight; the model is slow, so that work is left for it."""
        workers = [replica.name for replica in self.world.replicas if replica.service == "generation"]

        def is_calm() -> bool:
            quiet = not self.thaw_at and not self.heal_at and all(replica.is_running for replica in self.world.replicas)
            joined = time.monotonic() > max((at for _, at, _ in self.kills), default=0.0) + SESSION_S
            return quiet and joined and all(len(self.llm.in_flight(name)) >= self.scenario.slots // 2 for name in workers)

        self.llm.slowness = _CALM_SLOWNESS
        try:
            self._pass_until(lambda: is_calm() or self.llm.answered >= self.wanted, _CALM_S)
            yield
        finally:
            self.llm.slowness = 1.0

    def _pass_until(self, condition: Callable[[], bool], longest_s: float) -> None:
        deadline = time.monotonic() + longest_s
        while not condition() and time.monotonic() < deadline:
            self._let_pass(_TICK_S)

    def _freeze(self, name: str, seconds: float) -> None:
        if self.world.named(name).is_running and name not in self.thaw_at:
            self.world.named(name).send(signal.SIGSTOP)
            self.thaw_at[name] = time.monotonic() + seconds

    def _broker(self, end: Callable[[], None]) -> None:
        end()
        self.kafka.start()

    def _trouble(self, fault: Fault, seconds: float) -> None:
        self._until(lambda: not self.heal_at)
        if fault is Fault.LLM_AWAY:
            self.llm.go_away()
        self.llm.is_sick = fault is Fault.LLM_SICK
        self.llm.is_stuck = fault is Fault.LLM_STUCK
        self.heal_at = time.monotonic() + seconds

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

    def _settle(self) -> None:
        """Wait until nothing is found and nobody writes any more: what was published again still flows when all jobs are completed."""
        deadline = time.monotonic() + _SETTLE_S
        ends, still_since = None, time.monotonic()
        while time.monotonic() < deadline:
            before, ends = ends, asyncio.run(end_offsets(self.kafka.bootstrap, OURS))
            if ends != before:
                still_since = time.monotonic()
            elif time.monotonic() - still_since >= _STILL_S and not self._look()[1]:
                return
            self._let_pass(1.0)

    def _look(self) -> tuple[Found, list[Finding]]:
        unreadable = {place for place, each in self.poison.items() if each.kind == Kind.NAME_NOT_UTF8}
        read = asyncio.run(read_all(self.kafka.bootstrap, self.world.reports, [job.explain_job_id for job in self.jobs], unreadable))
        found = Found(read.records, read.files, list(self.llm.calls))
        return found, check(self.fates, self.poison, found)

    def _result(self, found: Found, findings: list[Finding], codes: Mapping[str, int], wall_s: float) -> Result:
        generation = [(name, at, waiting) for name, at, waiting in self.kills if name.startswith("generation")]
        of_kills, of_others = repeats(found.calls, [(name, at) for name, at, _ in generation])
        statuses = [decode(record.value, "JobReport")["status"] for record in found.records if record.topic == REPORTS and record.value]
        return Result(
            scenario=self.scenario,
            seed=self.seed,
            features=len(self.fates),
            findings=[*findings, *self.world.ended_by_themselves()],
            found=found,
            poison=self.poison,
            fates=self.fates,
            happened=self.happened,
            in_flight_at_kills=[waiting for _, _, waiting in generation],
            repeats_of_kills=of_kills,
            repeats_of_others=of_others,
            recoveries=self.recoveries,
            takeovers=self.takeovers,
            exits={replica.name: replica.exits for replica in self.world.replicas if replica.exits},
            stop_codes=codes,
            wall_s=wall_s,
            statuses=sorted(set(statuses) - {"running", "completed"}),
        )


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
