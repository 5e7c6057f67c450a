"""An OpenAI-compatible server that counts the calls for each feature, and that fails, hangs, lies and goes away to order.

A feature is told by the word that only its texts have. Each worker has an address of its own, `url(worker)`, so that
every call can be put down to one.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from chaos.checker import Call
from chaos.inputs import WORD

ANSWERED, CUT, FAILED, HUNG, DROPPED = "answered", "cut", "failed", "hung", "dropped"
LIES = ("garbage", "truncated", "refusal", "empty")
FAULTS = (FAILED, HUNG, DROPPED, *LIES)
HANG_S = 600.0
MODEL = "fake"


@dataclass(frozen=True, slots=True)
class Character:
    """How the model behaves.

    `latency_s` is the median of a log-normal; `faulty` the share of features whose first call goes wrong in one of
    `FAULTS`, drawn from the seed and the word. Features whose word is `cursed` get nothing but lies.
    """

    seed: int
    latency_s: float = 0.05
    faulty: float = 0.05
    cursed: frozenset[str] = frozenset()

    def ending(self, word: str, nth: int) -> str:
        """How the `nth` call about a word goes, the first being 0."""
        if word in self.cursed:
            return LIES[nth % len(LIES)]
        draw = random.Random(f"{self.seed} {word}")
        return draw.choice(FAULTS) if nth == 0 and draw.random() < self.faulty else ANSWERED


@dataclass
class FakeLlm:
    """The server, in a thread of its own. Everything that is public may be used from any thread."""

    character: Character
    calls: list[Call] = field(default_factory=list)
    first_seen: dict[str, list[float]] = field(default_factory=dict)
    """By worker, when each of its processes first asked for the list of models."""

    def __post_init__(self) -> None:
        self.is_sick = False
        """While set, every request fails with 500."""
        self.is_stuck = False
        """While set, no request is answered."""
        self.slowness = 1.0
        """So many times longer than its character says it takes for an answer."""
        self.port = 0
        self._nth: Counter[str] = Counter()
        self._open: dict[asyncio.Task[Any], tuple[str, str]] = {}
        self._answered: set[str] = set()
        self._jitter = random.Random(self.character.seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def url(self, worker: str) -> str:
        """The address that a worker is given."""
        return f"http://127.0.0.1:{self.port}/{worker}/v1"

    @property
    def answered(self) -> int:
        """Features that got a good answer."""
        return len(self._answered)

    def in_flight(self, worker: str) -> list[str]:
        """The words of the calls that a worker waits for now."""
        return [word for who, word in list(self._open.values()) if who == worker and word]

    def go_away(self) -> None:
        """Break every connection and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._go_away(), self._loop).result()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._come_back(), self._loop).result()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _come_back(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _go_away(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        waiting = list(self._open)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = ("", "")
        try:
            await self._answer(reader, writer, task)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            del self._open[task]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: "asyncio.Task[Any]") -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length")), 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        worker = head.split()[1].split("/")[1]
        if self.is_stuck:
            await self._wait_for(reader, HANG_S)
        elif self.is_sick:
            self._send(writer, 500, "application/json", json.dumps({"error": {"message": "out of memory", "type": "server_error"}}))
        elif "messages" not in body:
            self.first_seen.setdefault(worker, []).append(time.monotonic())
            self._send(writer, 200, "application/json", json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
        else:
            await self._complete(reader, writer, body, worker, task)
        await writer.drain()

    async def _complete(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Mapping[str, Any], worker: str, task: "asyncio.Task[Any]"
    ) -> None:
        word = next(iter(WORD.findall(" ".join(message["content"] for message in body["messages"]))), "")
        self._open[task] = (worker, word)
        at = time.monotonic()
        ending = self.character.ending(word, self._nth[word])
        self._nth[word] += 1
        try:
            seconds = HANG_S if ending == HUNG else self.slowness * self.character.latency_s * self._jitter.lognormvariate(0, 0.5)
            if await self._wait_for(reader, seconds):
                ending = ending if ending in FAULTS else CUT
            elif ending == FAILED:
                self._send(writer, 500, "application/json", json.dumps({"error": {"message": "cannot allocate", "type": "server_error"}}))
            else:
                self._send(writer, 200, "text/event-stream", "".join(self._stream(word, ending, is_json="response_format" in body)))
        except asyncio.CancelledError:
            ending = DROPPED  # the server goes away: a fault of its own
            raise
        finally:
            self.calls.append(Call(at, time.monotonic(), worker, word, ending))
            if ending == ANSWERED and word:
                self._answered.add(word)

    async def _wait_for(self, reader: asyncio.StreamReader, seconds: float) -> bool:
        """Wait; True when the caller goes away before the time is over."""
        try:
            async with asyncio.timeout(seconds):
                await reader.read(1)
        except TimeoutError:
            return False
        return True

    def _stream(self, word: str, ending: str, *, is_json: bool) -> Iterator[str]:
        text = answer_about(word, is_json=is_json)
        if ending == "garbage":
            text = "}{ \x07 ]] <|im_end|>"
        elif ending == "refusal":
            text = "I'm sorry, but I cannot help with that."
        elif ending == "empty":
            text = "  \n"
        yield self._event({"choices": [{"index": 0, "delta": {"content": text[: len(text) // 2] if ending in {"truncated", DROPPED} else text}}]})
        if ending == DROPPED:
            return
        yield self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length" if ending == "truncated" else "stop"}]})
        yield self._event({"choices": [], "usage": {"prompt_tokens": 100 + len(word), "completion_tokens": 30, "total_tokens": 130 + len(word)}})
        yield "data: [DONE]\n\n"

    def _event(self, content: Mapping[str, Any]) -> str:
        return f"data: {json.dumps({'id': '1', 'object': 'chat.completion.chunk', 'created': 1, 'model': MODEL, **content})}\n\n"

    def _send(self, writer: asyncio.StreamWriter, status: int, kind: str, content: str) -> None:
        encoded = content.encode()
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(encoded)}\r\nconnection: close\r\n\r\n".encode() + encoded)


def answer_about(word: str, *, is_json: bool) -> str:
    """The good answer about a word: the same each time, and no other feature's."""
    sentence = f"These texts all carry the mark {word} near their end."
    fields = {"label": "A mark near the end", "pattern": sentence, "significance": "The model knows the mark.", "implications": "None."}
    return json.dumps(fields) if is_json else sentence
