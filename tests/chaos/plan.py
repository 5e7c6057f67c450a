"""What happens in a chaos run, and when: everything is drawn from the seed, so that a run that failed can be repeated."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from chaos.poison import Dose, doses


class Fault(StrEnum):
    """What is done to the world."""

    KILL = "kill"
    """SIGKILL; the successor is started at once."""
    TIMED_KILL = "timed kill"
    """SIGKILL of a generation worker in a calm moment, to time how soon its successor works."""
    ABSENCE = "absence"
    """SIGKILL of a generation worker, in a calm moment, that does not come back until another has taken over."""
    FREEZE = "freeze"
    """SIGSTOP for longer than the session, then SIGCONT: a zombie wakes up."""
    BROKER_KILL = "broker kill"
    BROKER_RESTART = "broker restart"
    LLM_AWAY = "LLM away"
    LLM_SICK = "LLM fails"
    LLM_STUCK = "LLM hangs"
    POISON = "poison"
    PUBLISH_AGAIN = "publish again"


@dataclass(frozen=True, slots=True)
class Event:
    """A fault that is due when the share `at` of the features has its answer."""

    at: float
    fault: Fault
    target: str = ""
    seconds: float = 0.0
    doses: Sequence[Dose] = ()

    def __str__(self) -> str:
        details = [self.target, f"{self.seconds:g} s" if self.seconds else "", ", ".join(f"{dose.kind} on {dose.topic}" for dose in self.doses)]
        return " ".join(filter(None, [self.fault.value, *details]))


@dataclass(frozen=True, slots=True)
class Scenario:
    """How much of what a run has."""

    title: str
    counts: Sequence[int]
    """Features of each find job; each job has a target model of its own."""
    kills: int = 0
    timed_kills: int = 0
    absences: int = 0
    freezes: int = 0
    broker_kills: int = 0
    broker_restarts: int = 0
    outages: Sequence[tuple[Fault, float]] = ()
    """Outages of the model, with their seconds."""
    poison: int = 0
    bursts: int = 1
    publish_again: int = 0
    cursed: int = 0
    """Features that never get a usable answer."""
    faulty: float = 0.03
    """Share of the features whose first call goes wrong."""
    latency_s: float = 0.05
    slots: int = 8
    freeze_s: float = 9.0
    patience_s: float = 300.0
    """The run is given up when nothing has moved for so long."""
    settings: Mapping[str, str] = field(default_factory=dict)


def draw(scenario: Scenario, seed: int, replicas: Sequence[str]) -> list[Event]:
    """Draw a run's faults, in the order in which they happen; each replica is killed as often as any other."""
    rng = random.Random(f"{seed} plan")
    rounds = [name for _ in range(scenario.kills // len(replicas) + 1) for name in rng.sample(replicas, len(replicas))]
    happenings: list[tuple[Fault, str, float, Sequence[Dose]]] = [(Fault.KILL, name, 0.0, ()) for name in rounds[: scenario.kills]]
    generation = [name for name in replicas if name.startswith("generation")]
    happenings += [(Fault.TIMED_KILL, rng.choice(generation), 0.0, ()) for _ in range(scenario.timed_kills)]
    happenings += [(Fault.ABSENCE, rng.choice(generation), 0.0, ()) for _ in range(scenario.absences)]
    frozen = rng.sample(replicas, len(replicas))
    happenings += [(Fault.FREEZE, frozen[number % len(frozen)], scenario.freeze_s, ()) for number in range(scenario.freezes)]
    happenings += [(Fault.BROKER_KILL, "", 0.0, ())] * scenario.broker_kills + [(Fault.BROKER_RESTART, "", 0.0, ())] * scenario.broker_restarts
    happenings += [(fault, "", seconds, ()) for fault, seconds in scenario.outages]
    happenings += [(Fault.PUBLISH_AGAIN, "", 0.0, ())] * scenario.publish_again
    poison = doses(rng, scenario.poison)
    size = -(-len(poison) // scenario.bursts)
    happenings += [(Fault.POISON, "", 0.0, tuple(poison[start : start + size])) for start in range(0, len(poison), size or 1)]
    rng.shuffle(happenings)
    times = sorted(rng.uniform(0.02, 0.95) for _ in happenings)
    return [Event(at, *happening) for at, happening in zip(times, happenings, strict=True)]
