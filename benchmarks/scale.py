"""What more generation workers are worth: 1, 2 and 4, each a process with an endpoint of its own, and one that is added under load.

Throughput is features over the time from the first call to the last answer, a whole backlog drained to its end: 200 features
for each worker. An endpoint makes at most 10 features a second: 8 slots, calls of 0.8 s on average. The peers drain the same
backlog with the same endpoints; the plain loop uses aiokafka alone.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.fleet import (
    LANE,
    SLOTS,
    Fleet,
    answers_a_second,
    busy_share,
    drained_s,
    fake_llm,
    make_topics,
    members,
    publish_requests,
    repeated,
    requests,
    settings_of,
    until,
)
from benchmarks.table import print_table, spread
from chaos.fake_llm import FakeLlm
from integration.real_kafka import RealKafka

CALL_S = 0.8
EACH = 200
WORKERS = (1, 2, 4)
GOAL = 3.6
BUSY_GOAL = 0.9
BEFORE, WINDOW_S = 3, 10.0
OURS = "generation workers"
_READY_S = 6.0  # a plain worker's start and join

Start = Callable[[RealKafka, Path, FakeLlm, int], AbstractContextManager[None]]


@contextmanager
def ours(kafka: RealKafka, folder: Path, llm: FakeLlm, count: int) -> Iterator[None]:
    with Fleet(folder, kafka.bootstrap) as fleet:
        for number in range(count):
            fleet.start("generation", f"worker-{number}", llm.url(f"worker-{number}"))
        asyncio.run(members(settings_of(kafka.bootstrap), "generation", count))
        yield


def plain(kind: str) -> Start:
    @contextmanager
    def started(kafka: RealKafka, folder: Path, llm: FakeLlm, count: int) -> Iterator[None]:
        folder.mkdir(parents=True)
        with (folder / "plain.log").open("wb") as log:
            made = [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.plain_worker", kind, kafka.bootstrap, folder.name, LANE, llm.url(f"worker-{number}"), str(SLOTS)],
                    stdout=log,
                    stderr=log,
                )
                for number in range(count)
            ]
        time.sleep(_READY_S)
        try:
            yield
        finally:
            for process in made:
                process.kill()
                process.wait()

    return started


def throughput(kafka: RealKafka, folder: Path, start: Start, count: int) -> float:
    """Features a second of so many workers."""
    kafka.delete_topics("mistudio.")
    settings = settings_of(kafka.bootstrap)
    asyncio.run(make_topics(settings))
    total = EACH * count
    with fake_llm(CALL_S) as llm, start(kafka, folder, llm, count):
        asyncio.run(publish_requests(settings, requests(total)))
        asyncio.run(until(llm, total, 60 + 4 * total * CALL_S / SLOTS))
        return total / drained_s(llm.calls)


def added(kafka: RealKafka, folder: Path) -> dict[str, float]:
    """A fourth worker beside three that have work for a minute."""
    kafka.delete_topics("mistudio.")
    settings = settings_of(kafka.bootstrap)
    asyncio.run(make_topics(settings))
    with fake_llm(CALL_S) as llm, Fleet(folder, kafka.bootstrap) as fleet:
        old = [f"worker-{number}" for number in range(BEFORE)]
        for name in old:
            fleet.start("generation", name, llm.url(name))
        asyncio.run(members(settings, "generation", BEFORE))
        asyncio.run(publish_requests(settings, requests(1_600)))
        asyncio.run(until(llm, 120, 60))
        started = time.monotonic()
        fleet.start("generation", "worker-new", llm.url("worker-new"))
        while not (first := next((call.at for call in list(llm.calls) if call.worker == "worker-new"), None)):
            time.sleep(0.05)
        time.sleep(max(0.0, first + WINDOW_S + 4 * CALL_S - time.monotonic()))  # calls are noted when they end
        calls, end = list(llm.calls), first + WINDOW_S
    return {
        "old workers' slots busy, 4 s before": busy_share(calls, old, started - 4, started),
        "old workers' slots busy, from the new one's process start": busy_share(calls, old, started, end),
        "all slots busy, from the new one's first call": busy_share(calls, [*old, "worker-new"], first, end),
        "from process start to first call, s": first - started,
        "calls made again": repeated([call for call in calls if call.at >= started - CALL_S]),
        "answers a second before, then": answers_a_second(calls, started - 4, started),
        "answers a second after": answers_a_second(calls, first, end),
    }


def main(runs: int = 1) -> None:
    contenders: dict[str, Start] = {OURS: ours, "plain aiokafka loop": plain("batch"), "FastStream, max_workers": plain("faststream")}
    rates: dict[str, dict[int, list[float]]] = {name: {count: [] for count in WORKERS} for name in contenders}
    changes: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder) / "kafka") as kafka:
        for run in range(runs):
            for name, start in contenders.items():
                for count in WORKERS:
                    rates[name][count].append(throughput(kafka, Path(folder) / f"{run}-{name.replace(' ', '-')}-{count}", start, count))
                    print(f"run {run + 1}: {name}, {count}: {rates[name][count][-1]:.2f} features a second", file=sys.stderr, flush=True)
            for name, value in added(kafka, Path(folder) / f"{run}-added").items():
                changes.setdefault(name, []).append(value)
    rows = []
    for name, by_count in rates.items():
        scaled = [most / one for most, one in zip(by_count[WORKERS[-1]], by_count[1], strict=True)]
        rows.append([name, *(spread(by_count[count]) for count in WORKERS), spread(scaled)])
    columns = ("features a second with", *(f"{count} worker{'s' if count > 1 else ''}" for count in WORKERS), f"{WORKERS[-1]} ÷ 1 (goal ≥ {GOAL})")
    print_table(f"Scale: {EACH} features for each worker, {SLOTS} slots, calls of {CALL_S} s", columns, rows)
    print_table(
        f"A worker added to {BEFORE} under load, window {WINDOW_S:.0f} s (goal: slots busy ≥ {BUSY_GOAL})",
        ("what", "came out as"),
        [[name, spread(values)] for name, values in changes.items()],
    )
    assert median(rates[OURS][1]) > 0


if __name__ == "__main__":
    main()
