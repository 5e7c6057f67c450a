"""A simulated LLM server: slots, rates, memory, a prompt cache and faults, in a time that can run faster than the clock.

Calls of a model that is not loaded are taken in the order in which they came, as Ollama takes them: the first waits until
its model fits, for which others must be idle, and those behind it wait too. A call of a loaded model waits for one of its
slots. Then its prompt is read, one prompt at a time, less what one of the slots' last prompts has in common with it; then
its answer is written, at a rate that all answers share. Reading does not slow writing, which real servers do not achieve.
"""

import asyncio
import random
import time
import tomllib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).with_name("profiles.toml")
CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model's size, 10^9 bytes, and how long it takes to load, seconds."""

    size: float
    load: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A server; profiles.toml says what each line means."""

    slots: int
    decode: tuple[tuple[float, float], ...]
    prefill: float
    memory: float
    answer: tuple[float, float]
    models: Mapping[str, ModelProfile]
    rate: tuple[float, float] | None = None
    busy_above: int = 512  # OLLAMA_MAX_QUEUE's default

    def tokens_per_s(self, writing: int) -> float:
        """What so many answers get together."""
        below = self.decode[0]
        for point in self.decode:
            if writing <= point[0]:
                share = 0.0 if point[0] == below[0] else (writing - below[0]) / (point[0] - below[0])
                return below[1] + share * (point[1] - below[1])
            below = point
        return below[1]


def profile_named(name: str) -> Profile:
    """Read a profile from profiles.toml."""
    content = tomllib.loads(PROFILES.read_text())
    made: dict[str, Any] = dict(content[name])
    made["models"] = {model: ModelProfile(**line) for model, line in made["models"].items()}
    made["decode"] = tuple(map(tuple, made["decode"]))
    return Profile(**made)


@dataclass(slots=True)
class Faults:
    """What goes wrong, as shares of the calls, and how many times slower everything is."""

    errors: float = 0.0
    hangs: float = 0.0
    drops: float = 0.0
    latency_factor: float = 1.0


@dataclass(slots=True)
class Observed:
    """What the server saw, for the benchmark that drives it."""

    answered: int = 0
    refused: int = 0
    """Calls answered with 429 or 503."""
    failed: int = 0
    most_in_server: int = 0
    loads: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    busy_s: float = 0.0
    """Time in which an answer was written, of the model's time."""


class Refused(Exception):
    """The server takes no call now."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class Broken(Exception):
    """The server fails: before the answer, or in its middle."""


@dataclass(slots=True, eq=False)
class _Answer:
    left: float
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Loaded:
    """A model in memory; its calls hold a slot each, the others wait in turn."""

    size: float
    slots: asyncio.Semaphore
    prompts: list[str]
    """The last prompt of each slot: what the prompt cache has."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    used_at: float = 0.0
    is_expired: bool = False
    """Whether it was told to go, and nobody called it since."""


class LoadModel:
    """The server; `scale` is how long a second of the model takes, seconds."""

    def __init__(self, profile: Profile, *, seed: int, scale: float) -> None:
        self.profile = profile
        self.scale = scale
        self.faults = Faults()
        self.observed = Observed()
        self._rng = random.Random(seed)
        self._loaded: dict[str, _Loaded] = {}
        self._waiting: deque[tuple[str, asyncio.Future[_Loaded]]] = deque()
        self._in_server = 0
        self._prefill = asyncio.Lock()
        self._writing: set[_Answer] = set()
        self._wrote_at = self.now()
        self._timer: asyncio.TimerHandle | None = None
        self._tokens, self._tokens_at = (profile.rate[1] if profile.rate else 0.0), self.now()
        self._loads: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        """The model's time, seconds."""
        return time.monotonic() / self.scale

    @property
    def resident(self) -> dict[str, int]:
        """Models in memory and their bytes."""
        return {name: int(loaded.size * 1e9) for name, loaded in self._loaded.items()}

    def unload(self, model: str) -> None:
        """Let go of a model as soon as its calls have ended."""
        if (loaded := self._loaded.get(model)) is not None:
            loaded.is_expired = True
            self._let_go()

    async def load(self, model: str) -> None:
        """Have a model loaded."""
        loaded = await self._seat(model)
        try:
            await loaded.ready.wait()
        finally:
            self._leave(loaded)

    async def answer(self, model: str, prompt: str, most_tokens: int) -> AsyncGenerator[int, None]:
        """Answer a call: yields the prompt's tokens when it has been read, and the answer's when it is written.

        Raises Refused and Broken. Closing it ends the call.
        """
        self._refuse_if_limited()
        self._in_server += 1
        self.observed.most_in_server = max(self.observed.most_in_server, self._in_server)
        try:
            fault = self._rng.random()
            tokens = min(most_tokens, max(1, round(self._rng.lognormvariate(0, self.profile.answer[1]) * self.profile.answer[0])))
            loaded = await self._seat(model)
            try:
                await loaded.ready.wait()
                async with loaded.slots:
                    if fault < self.faults.errors:
                        await self._sleep(0.1)
                        raise Broken("simulated error")
                    if fault < self.faults.errors + self.faults.hangs:
                        await asyncio.Event().wait()
                    yield await self._read(loaded, prompt)
                    is_dropped = fault < self.faults.errors + self.faults.hangs + self.faults.drops
                    await self._write(tokens / 2 if is_dropped else tokens)
                    if is_dropped:
                        raise Broken("simulated drop")
                    self.observed.answered += 1
                    self.observed.answer_tokens += tokens
                    yield tokens
            finally:
                self._leave(loaded)
        except Broken:
            self.observed.failed += 1
            raise
        finally:
            self._in_server -= 1

    def _refuse_if_limited(self) -> None:
        if self._in_server >= self.profile.busy_above:
            self.observed.refused += 1
            raise Refused(503, None)
        if self.profile.rate is None:
            return
        rate, burst = self.profile.rate
        now = self.now()
        self._tokens, self._tokens_at = min(burst, self._tokens + (now - self._tokens_at) * rate), now
        if self._tokens < 1:
            self.observed.refused += 1
            raise Refused(429, (1 - self._tokens) / rate * self.scale)
        self._tokens -= 1

    async def _seat(self, model: str) -> _Loaded:
        """The model in memory, with this call among its users."""
        turn: asyncio.Future[_Loaded] = asyncio.get_running_loop().create_future()
        self._waiting.append((model, turn))
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(turn.result())
            raise

    def _admit(self) -> None:
        while self._waiting:
            model, turn = self._waiting[0]
            if not turn.cancelled():
                loaded = self._loaded.get(model) or self._load(model)
                if loaded is None:
                    return
                loaded.users += 1
                loaded.is_expired = False
                turn.set_result(loaded)
            self._waiting.popleft()

    def _load(self, model: str) -> _Loaded | None:
        """Begin to load a model; None while what is in the way is in use."""
        size = self.profile.models[model].size
        idle = sorted((loaded.used_at, name) for name, loaded in self._loaded.items() if not loaded.users)
        while sum(loaded.size for loaded in self._loaded.values()) + size > self.profile.memory:
            if not idle:
                return None
            del self._loaded[idle.pop(0)[1]]
        self.observed.loads += 1
        loaded = self._loaded[model] = _Loaded(size, asyncio.Semaphore(self.profile.slots), [""] * self.profile.slots)

        async def load() -> None:
            await self._sleep(self.profile.models[model].load)
            loaded.ready.set()

        task = asyncio.create_task(load())
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        return loaded

    def _leave(self, loaded: _Loaded) -> None:
        loaded.users -= 1
        loaded.used_at = self.now()
        self._let_go()

    def _let_go(self) -> None:
        self._loaded = {name: loaded for name, loaded in self._loaded.items() if loaded.users or not loaded.is_expired}
        self._admit()

    async def _read(self, loaded: _Loaded, prompt: str) -> int:
        common, slot = max((_in_common(last, prompt), slot) for slot, last in enumerate(loaded.prompts))
        loaded.prompts[slot] = prompt
        tokens, known = round(len(prompt) / CHARACTERS_PER_TOKEN), round(common / CHARACTERS_PER_TOKEN)
        self.observed.prompt_tokens += tokens
        self.observed.cached_tokens += known
        async with self._prefill:
            await self._sleep((tokens - known) / self.profile.prefill)
        return tokens

    async def _write(self, tokens: float) -> None:
        answer = _Answer(tokens)
        self._advance()
        self._writing.add(answer)
        self._advance()
        try:
            await answer.done.wait()
        finally:
            self._advance()
            self._writing.discard(answer)
            self._advance()

    def _advance(self) -> None:
        """Write on until now, end what is complete, and look again when the next one will be."""
        now = self.now()
        if self._writing:
            each = self._each()
            self.observed.busy_s += now - self._wrote_at
            for answer in list(self._writing):
                answer.left -= each * (now - self._wrote_at)
                if answer.left <= 1e-6:
                    answer.done.set()
                    self._writing.discard(answer)
        self._wrote_at = now
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing:
            soonest = min(answer.left for answer in self._writing) / self._each()
            self._timer = asyncio.get_running_loop().call_later(max(soonest, 0) * self.scale, self._advance)

    def _each(self) -> float:
        return self.profile.tokens_per_s(len(self._writing)) / len(self._writing) / self.faults.latency_factor

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.scale * self.faults.latency_factor)


def _in_common(one: str, other: str) -> int:
    """Characters that two texts begin with alike; by halving, since prompts are long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
