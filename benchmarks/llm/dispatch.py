"""The dispatch at simulated servers: models that do not fit together, servers that die or get slow, limits to be found, its own cost."""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice

import structlog

from benchmarks.fake_llm import FakeProvider, fake_endpoints, instant
from benchmarks.llm.feeding import Feeding, call_of, mixed, opened
from benchmarks.llm.load_model import profile_named
from benchmarks.llm.simulated import Simulated
from benchmarks.table import print_table
from mistudio_explain.llm.asking import ask
from mistudio_explain.llm.endpoints import Choice
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.provider import Call
from mistudio_explain.settings import EndpointSettings

SWITCH_SCALE = 0.05  # of a second of the model's
FAULT_SCALE = 0.25
LIMIT_SCALE = 0.25
BOUND_S = 120.0
FIXED = (1, 2, 4, 6, 8, 12, 16, 32)
SLOTS = 4


def endpoint(server: Simulated, name: str = "x", **settings: object) -> EndpointSettings:
    return EndpointSettings.model_validate({"name": name, "provider": "ollama", "url": server.url, **settings})


async def _first_come(server: Simulated, workers: int, count: int) -> float:
    """Calls a second, of the model's time, when each worker sends what comes next as soon as one of its slots is free."""
    provider, numbered = Ollama(server.url), enumerate(islice(mixed(("alpha", "beta")), count))

    async def slot() -> None:
        for number, model in numbered:
            await provider.complete(call_of(model, number))

    began = time.monotonic()
    await asyncio.gather(*(slot() for _ in range(SLOTS * workers)))
    took = time.monotonic() - began
    await provider.close()
    return count / took * SWITCH_SCALE


async def _by_residency(server: Simulated, count: int) -> tuple[float, float]:
    """Calls a second, and the longest wait for a slot, of the model's time."""
    async with (
        opened(endpoint(server, slots=SLOTS, memory_gb=8.0), max_wait_s=BOUND_S * SWITCH_SCALE) as endpoints,
        Feeding(endpoints, mixed(("alpha", "beta"))) as feeding,
    ):
        began = time.monotonic()
        await feeding.until(count)
        took = time.monotonic() - began
        longest = max(one.slot_at - one.asked_at for one in feeding.done)
    return count / took * SWITCH_SCALE, longest / SWITCH_SCALE


def switching() -> None:
    rows, peers = [], {}
    for workers in (1, 4):
        with Simulated("two-models", scale=SWITCH_SCALE) as server:
            peers[workers] = asyncio.run(_first_come(server, workers, 60))
            rows.append([f"first come, {workers} worker{'s' * (workers > 1)} of {SLOTS}", f"{peers[workers]:.2f}", str(server.observed()["loads"]), "", ""])
    with Simulated("two-models", scale=SWITCH_SCALE) as server:
        rate, longest = asyncio.run(_by_residency(server, 600))
        loads = str(server.observed()["loads"])
    ratio = min(rate / peer for peer in peers.values())
    rows.append([f"dispatch, {SLOTS} slots", f"{rate:.2f}", loads, f"{longest:.0f} s (bound {BOUND_S:.0f} s)", f"{ratio:.1f} (goal ≥ 3)"])
    title = "Two models of which one fits, calls 50:50, 10 s for a switch"
    print_table(title, ("contender", "calls/s", "loads", "longest wait", "÷ the better first come"), rows, note=_simulated(SWITCH_SCALE))


async def _faults() -> tuple[float, float, int, int]:
    names = ("x", "y", "z")
    with (
        Simulated("healthy", scale=FAULT_SCALE, seed=1) as x,
        Simulated("healthy", scale=FAULT_SCALE, seed=2) as y,
        Simulated("healthy", scale=FAULT_SCALE) as z,
    ):
        servers = (x, y, z)
        async with (
            opened(*(endpoint(server, name, slots=SLOTS) for server, name in zip(servers, names, strict=True))) as endpoints,
            Feeding(endpoints, mixed(("alpha",))) as feeding,
        ):
            await asyncio.sleep(10 * FAULT_SCALE)
            began = time.monotonic()
            await asyncio.sleep(40 * FAULT_SCALE)
            before = feeding.rate(began, time.monotonic())
            await asyncio.to_thread(y.fail, latency_factor=10.0)
            await asyncio.to_thread(z.kill)
            await asyncio.sleep(10 * FAULT_SCALE)
            began = time.monotonic()
            await asyncio.sleep(60 * FAULT_SCALE)
            after = feeding.rate(began, time.monotonic())
            failed = sum(not one.answered for one in feeding.done)
            return before * FAULT_SCALE, after * FAULT_SCALE, failed, len(feeding.done)


def faults() -> None:
    before, after, failed, done = asyncio.run(_faults())
    tokens, sigma = profile_named("healthy").answer
    capacity = profile_named("healthy").tokens_per_s(SLOTS) / (tokens * math.exp(sigma**2 / 2))  # the mean of a log-normal
    share = after / capacity
    rows = [
        ["three servers", f"{before:.2f}", "", ""],
        ["10 s after one died and one got ten times slower", f"{after:.2f}", f"{share:.2f} (goal ≥ 0.9)", f"{failed} of {done} (goal 0)"],
    ]
    print_table("One of three servers left", ("when", "calls/s", "÷ what the healthy server can", "failed"), rows, note=_simulated(FAULT_SCALE))


async def _limited(server: Simulated, model: str, warm_s: float, seconds: float, **settings: object) -> tuple[float, int]:
    """Calls a second of the model's time, after `warm_s`, and the slots at the end."""
    async with opened(endpoint(server, **settings)) as endpoints, Feeding(endpoints, mixed((model,))) as feeding:
        await asyncio.sleep(warm_s * server.scale)
        began = time.monotonic()
        await asyncio.sleep(seconds * server.scale)
        return feeding.rate(began, time.monotonic()) * server.scale, endpoints.slots


def limits(profiles: Sequence[str] = ("saturating", "collapsing", "batching")) -> None:
    rows = []
    for profile in profiles:
        fixed: dict[int, float] = {}
        for slots in FIXED:
            with Simulated(profile, scale=LIMIT_SCALE) as server:
                fixed[slots], _ = asyncio.run(_limited(server, "alpha", 8, 24, slots=slots))
        with Simulated(profile, scale=LIMIT_SCALE) as server:
            rate, slots = asyncio.run(_limited(server, "alpha", 60, 60))
        best = max(fixed, key=lambda slots: fixed[slots])
        rows.append([profile, f"{fixed[best]:.2f} with {best}", f"{rate:.2f}, then at {slots}", f"{rate / fixed[best]:.2f} (goal ≥ 0.9)"])
    title = f"Slots that are found, from 60 s on, beside the best of {', '.join(map(str, FIXED))}"
    print_table(title, ("server", "best fixed, calls/s", "found, calls/s", "found ÷ best"), rows, note=_simulated(LIMIT_SCALE))


def rate_limit(seconds: float = 120.0, allowed: float = 10.0) -> None:
    with Simulated("cloud") as server:
        rate, _ = asyncio.run(_limited(server, "cloud", 0, seconds))
        seen = server.observed()
    refused = seen["refused"] / (seen["refused"] + seen["answered"])
    rows = [[f"{allowed:.0f}", f"{rate:.2f}", f"{rate / allowed:.2f} (goal ≥ 0.9)", f"{100 * refused:.1f} % (goal < 2 %)"]]
    print_table(f"A rate limit, the first {seconds:.0f} s", ("allowed, calls/s", "answered, calls/s", "share", "refused with 429"), rows, note=_simulated(1.0))


def _call(number: int, choice: Choice, _: int) -> Call:
    return call_of(choice.model.name, number)


async def _overhead(count: int, waiting: int) -> float:
    endpoints = await fake_endpoints(FakeProvider(instant()), SLOTS)
    rng, numbered = random.Random(1), iter(range(count))

    async def slot() -> None:
        for number in numbered:
            await ask(endpoints, ["fake"], partial(_call, number), lambda answer: answer.text, attempts=1, retry_wait_s=0, rng=rng)

    began = time.process_time()
    await asyncio.gather(*(slot() for _ in range(SLOTS + waiting)))
    cost = (time.process_time() - began) / count
    await endpoints.close()
    return cost * 1000


def overhead(count: int = 4000) -> None:
    rows = [[str(waiting), f"{asyncio.run(_overhead(count, waiting)):.3f} (goal ≤ 1)"] for waiting in (0, 4, 100)]
    print_table("The dispatch's own cost: from question to answer, CPU", ("calls that wait", "ms for each call"), rows)


def _simulated(scale: float) -> str:
    return f"Simulated servers in processes of their own, 1 s taking {scale:g} s; rates and times are the model's."


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    overhead()
    switching()
    faults()
    rate_limit()
    limits()


if __name__ == "__main__":
    main()
