"""Whether a job's caps on clouds hold while workers are killed: several processes on one ledger, SIGKILL at random moments.

`python -m benchmarks.budget` prints a table. Each run is a job of 400 features of which every one is a candidate: workers
reserve, call and settle in an order of their own, and are killed and replaced. The cloud is a file that each call is
written to, with what it charges, before its answer "comes back": what is in it was served and has to be paid. In every
other run the dollars bind, in the others the share. Peers: a counter that is read before a call and written after it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from integration.real_postgres import RealPostgres, postgres_programs
from mistudio_explain.errors import Unreachable
from mistudio_explain.escalation.stage import CLOUD_SHARE, allowance
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.ledger import Caps, Destination, Ledger

T = TypeVar("T")

FEATURES = 400
MOST_MICRO = 1000
CALLS = 3
SEEN = 100  # of the features by each worker, which are more than the share allows
WORKERS = 4
_TO = Destination("cloud", "", "m")
_JOB = "job"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run came to, against its caps."""

    cap_features: int
    cap_micro: int
    features: int
    micro: int
    calls: int
    kills: int

    @property
    def exceeds(self) -> bool:
        return self.features > self.cap_features or self.micro > self.cap_micro


def serve(log: Path, feature: str, micro: int) -> None:
    """The cloud: from here on the call is to be paid."""
    with log.open("ab", buffering=0) as out:
        out.write(json.dumps([feature, micro]).encode() + b"\n")


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """A step of the ledger, tried again while its file is locked, as services do."""
    while True:
        try:
            return await step()
        except (Unreachable, StoreLost):
            await asyncio.sleep(0.05)


async def with_ledger(settings: StoreSettings, caps: Caps, log: Path, rng: random.Random) -> None:
    ledger = Ledger(settings)
    for number in rng.sample(range(FEATURES), SEEN):
        feature = str(number)
        reserve = partial(ledger.reserve, _JOB, feature, revision=1, call_micro=MOST_MICRO, calls=CALLS, caps=caps)
        if await patiently(reserve) is not None:
            continue
        for _ in range(rng.randint(1, CALLS)):
            if not await patiently(partial(ledger.begin, _JOB, feature, _TO, most_micro=MOST_MICRO)):
                break
            micro = rng.randint(1, MOST_MICRO)
            serve(log, feature, micro)
            await asyncio.sleep(rng.uniform(0, 0.004))
            await patiently(partial(ledger.finish, _JOB, feature, _TO, micro=micro))
        await patiently(partial(ledger.settle, _JOB, feature))
    ledger.close()


async def with_counter(_: StoreSettings, caps: Caps, log: Path, rng: random.Random) -> None:
    """The peer: read what was spent, call, write what was spent."""
    counter = log.with_suffix(".counter")
    for number in rng.sample(range(FEATURES), SEEN):
        spent = json.loads(counter.read_text()) if counter.exists() and counter.read_text() else {}
        if len({*spent, str(number)}) > caps.features or sum(spent.values()) + MOST_MICRO > caps.micro:
            continue
        micro = rng.randint(1, MOST_MICRO)
        serve(log, str(number), micro)
        await asyncio.sleep(rng.uniform(0, 0.004))
        spent[str(number)] = spent.get(str(number), 0) + micro
        beside = counter.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(spent))
        beside.replace(counter)


WAYS: dict[str, Callable[..., object]] = {"ledger": with_ledger, "counter": with_counter}


def _work(way: str, settings: StoreSettings, caps: Caps, log: Path, seed: int) -> None:
    asyncio.run(WAYS[way](settings, caps, log, random.Random(seed)))  # type: ignore[arg-type]


def run(way: str, settings: StoreSettings, seed: int, log: Path, *, kills: int = 25) -> Run:
    """One job: workers are killed until so many kills were made, then the last ones finish."""
    rng = random.Random(seed)
    share = allowance(FEATURES, CLOUD_SHARE)
    caps = Caps(features=share, micro=share * CALLS * MOST_MICRO if seed % 2 else 7 * CALLS * MOST_MICRO)
    processes = multiprocessing.get_context("fork")
    done = 0

    def start() -> multiprocessing.process.BaseProcess:
        worker = processes.Process(target=_work, args=(way, settings, caps, log, rng.randrange(1 << 30)))
        worker.start()
        return worker

    workers = [start() for _ in range(WORKERS)]
    while done < kills and any(worker.is_alive() for worker in workers):
        time.sleep(rng.uniform(0.005, 0.05))
        place = rng.randrange(WORKERS)
        if workers[place].is_alive():
            workers[place].kill()
            workers[place].join()
            workers[place] = start()
            done += 1
    for worker in workers:
        worker.join()
    served = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Run(caps.features, caps.micro, len({feature for feature, _ in served}), sum(micro for _, micro in served), len(served), done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    programs = postgres_programs()
    print(f"{'store':12} {'way':8} runs  kills  calls  most features of cap  most spent of cap  runs above a cap")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(RealPostgres(programs)) if programs else None
        for store in ("sqlite", "postgresql"):
            if store == "postgresql" and server is None:
                print(f"{store:12} not installed")
                continue
            for way in WAYS if store == "sqlite" else ("ledger",):
                made = []
                for seed in range(runs):
                    own = folder / f"{store}-{way}-{seed}"
                    own.mkdir()
                    settings = server.new_store() if store == "postgresql" and server else StoreSettings(url=f"sqlite:///{own}/explain.db")
                    made.append(run(way, settings, seed, own / "served"))
                features = max(each.features / each.cap_features for each in made)
                spent = max(each.micro / each.cap_micro for each in made)
                sums = f"{sum(each.kills for each in made):6} {sum(each.calls for each in made):6}"
                print(f"{store:12} {way:8} {runs:4} {sums} {features:21.2f} {spent:18.2f} {sum(each.exceeds for each in made):17}", flush=True)


if __name__ == "__main__":
    main()
