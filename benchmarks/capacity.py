"""Whether the simulation tells what happens: runs of the real services on this machine, and what it says of them beforehand.

Calibrated with: each service alone on 200 and on 1,000 features (CPU for a feature: the difference), one worker alone with 80
prompts (what a call takes beyond the model's own time), llama.cpp asked by its official client. Foretold: runs of all services
together, of other shapes and numbers. Then ten million features on a hundred endpoints.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks import real_model, scale
from benchmarks.fleet import SLOTS, drained_s, fake_llm, make_topics, publish_requests, requests, settings_of, until
from benchmarks.measured_runs import Alone, Observed, calibrated, one_size, places, prompt_places, whole
from benchmarks.simulation import outlook
from benchmarks.simulation.pipeline import simulate
from benchmarks.simulation.world import Costs, Endpoint, World
from benchmarks.table import print_table
from integration.real_kafka import RealKafka

FEW, MANY = 200, 1_000
SMALL, LARGE = 6_000, 42_000
OF_LARGE = 150  # smaller jobs go through the express lane
CALLS, CALL_S = 80, 2.0
GOAL = 0.15
CORES = 2
_SEEDS = 5
_ENOUGH = 3
OUTLOOK = 1_000_000  # of the ten million are simulated; a coarser grain than four features a record would not fill the slots as they are


@dataclass(frozen=True, slots=True)
class Known:
    """What the simulation is calibrated with."""

    alone: Alone
    beyond_s: float
    """What a call takes beyond the model's own time, its share of the slot."""

    @property
    def costs(self) -> Costs:
        cpu = self.alone.cpu_s
        return Costs(cpu["context"], cpu["generation"], cpu["validation"], cpu["aggregator"], self.alone.broker_s, self.alone.server_s)

    def endpoint(self, call_s: float) -> Endpoint:
        return Endpoint(SLOTS, call_s + self.beyond_s)


@dataclass(frozen=True, slots=True)
class Case:
    """A run that is to be foretold."""

    name: str
    calls_s: Sequence[float]
    """A worker for each: the mean of its endpoint's calls."""
    features: int
    lane_partitions: int = 12
    late_s: float | None = None

    def world(self, known: Known, observed: Observed) -> World:
        """The same in virtual time; taken from the run itself are only the cores that others left, and when a late worker was there."""
        return World(
            self.features, [known.endpoint(call_s) for call_s in self.calls_s], known.costs, lane_partitions=self.lane_partitions,
            cores=max(0.1, CORES - observed.others), places=places(self.features, SMALL, self.lane_partitions),
            joins=() if observed.joined_s is None else (*[0.0] * (len(self.calls_s) - 1), observed.joined_s),
        )  # fmt: skip


CASES = (
    Case("one endpoint, calls of 2 s", (2.0,), 160),
    Case("two endpoints of 1 s and two of 3 s", (1.0, 1.0, 3.0, 3.0), 240),
    Case("one endpoint of 2 s, another one 8 s later", (2.0, 2.0), 200, late_s=8.0),
    Case("two endpoints that answer at once", (0.0, 0.0), 1_500),
)


def known(kafka: RealKafka, folder: Path) -> Known:
    """Calibrate: nothing here is one of the runs to be foretold."""
    return Known(calibrated(kafka, folder / "alone", FEW, MANY, SMALL), _beyond_s(kafka, folder / "one-worker"))


def _beyond_s(kafka: RealKafka, folder: Path) -> float:
    """One worker, a backlog of prompts, no other service: the time of a slot for each call, less the model's own."""
    kafka.delete_topics("mistudio.")
    settings = settings_of(kafka.bootstrap)
    asyncio.run(make_topics(settings))
    with fake_llm(CALL_S, seed=7) as llm, scale.ours(kafka, folder, llm, 1):
        asyncio.run(publish_requests(settings, requests(CALLS)))
        asyncio.run(until(llm, CALLS, 300))
        nominal = World(CALLS, [Endpoint(SLOTS, CALL_S)], Costs(0, 0, 0, 0, 0, 0), has_intake=False)
        return max(0.0, CALL_S * (drained_s(llm.calls) / _mean(nominal, lambda made: made.calls_s) - 1))


def _mean(world: World, of: Callable[..., float]) -> float:
    """Over some seeds: the runs differ by the luck of their calls."""
    return fmean(of(simulate(world.but(seed=seed))) for seed in range(1, _SEEDS + 1))


def compare(kafka: RealKafka, folder: Path, calibration: Known) -> list[tuple[str, float, float]]:
    """Each case: its name, seconds measured, seconds foretold."""
    rows = []
    for number, case in enumerate(CASES):
        observed = whole(kafka, folder / f"case-{number}", case.calls_s, case.features, lane_partitions=case.lane_partitions, late_s=case.late_s)
        foretold = _mean(case.world(calibration, observed), lambda made: made.seconds)
        rows.append((f"{case.name}; {case.features} features", observed.seconds, foretold))
        print(f"{case.name}: {observed.seconds:.1f} s, foretold {foretold:.1f} s, others had {observed.others:.2f} cores", file=sys.stderr, flush=True)
    return rows


def compare_workers(kafka: RealKafka, folder: Path, calibration: Known) -> list[tuple[str, float, float]]:
    """Two and four workers that drain a lane of prompts, from the first call to the last answer."""
    rows = []
    for count in (2, 4):
        total = scale.EACH * count
        seconds = total / scale.throughput(kafka, folder / f"workers-{count}", scale.ours, count)
        endpoints = [calibration.endpoint(scale.CALL_S)] * count
        world = World(total, endpoints, calibration.costs, has_intake=False, places=prompt_places(total, 12))
        rows.append((f"{count} workers, calls of {scale.CALL_S} s; {total} prompts", seconds, _mean(world, lambda made: made.calls_s)))
        print(f"{count} workers: {rows[-1][1]:.1f} s, foretold {rows[-1][2]:.1f} s", file=sys.stderr, flush=True)
    return rows


def compare_real_model(kafka: RealKafka, folder: Path) -> tuple[str, float, float]:
    """The same with llama.cpp, calibrated right before."""
    foretold = real_model.foretold(real_model.calibrated(real_model.FEATURES), real_model.FEATURES)
    seconds = real_model.measured(kafka, folder / "llama", real_model.FEATURES)
    print(f"llama.cpp: {seconds:.1f} s, foretold {foretold:.1f} s", file=sys.stderr, flush=True)
    return f"llama.cpp, 4 slots; {real_model.FEATURES} features", seconds, foretold


def print_comparison(rows: Sequence[tuple[str, float, float]]) -> int:
    """The table; returns how many were foretold within the goal."""
    cells = [[name, f"{seconds:.1f}", f"{told:.1f}", f"{told / seconds - 1:+.0%}"] for name, seconds, told in rows]
    print_table(f"Foretold and measured (goal: three within {GOAL:.0%})", ("run", "measured, s", "foretold, s", "difference"), cells)
    return sum(abs(told / seconds - 1) <= GOAL for _, seconds, told in rows)


def print_measured(alone: Alone, large: tuple[dict[str, float], float]) -> None:
    """The file that `plan` takes its measured figures from."""
    print("\n```toml\n# services/mistudio_explain/capacity/measured.toml\n")
    print(f'origin = "measured: python -m benchmarks capacity"\nfeature_bytes = [{SMALL}, {LARGE}]')
    print(f"store_bytes = [{alone.store_bytes:.0f}, {large[1]:.0f}]\n\n[cpu_ms]")
    for service, seconds in alone.cpu_s.items():
        print(f"{service} = {seconds * 1000:.2f}")
    print("\n[topic_bytes]")
    for topic, written in alone.topic_bytes.items():
        print(f'"{topic}" = [{written:.0f}, {large[0][topic]:.0f}]')
    print("```")


def main() -> None:
    with tempfile.TemporaryDirectory() as place, RealKafka(Path(place) / "kafka") as kafka:
        folder = Path(place)
        calibration = known(kafka, folder)
        print(calibration, file=sys.stderr, flush=True)
        large = one_size(kafka, folder / "large", OF_LARGE, LARGE)
        rows = [*compare(kafka, folder, calibration), *compare_workers(kafka, folder, calibration), compare_real_model(kafka, folder)]
    print_measured(calibration.alone, (dict(large[0]), large[1]))
    if print_comparison(rows) < _ENOUGH:
        print(f"\nFewer than {_ENOUGH} runs were foretold: the simulation says nothing of larger ones.")
        return
    found = outlook.rows(list(outlook.steps(calibration.costs, OUTLOOK)))
    print_table("Ten million features on a hundred endpoints", ("change", "features a second", "hours for all", "slots busy", "limited by"), found)


if __name__ == "__main__":
    main()
