"""A server on a real socket that speaks Ollama's or the OpenAI API's wire format, as a test scripts it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.ollama import Ollama
from mistudio_explain.llm.openai import OpenAi
from mistudio_explain.llm.provider import Call, Patience, Provider

PATIENT = Patience(first_token_s=5, token_s=5, deadline_s=10)
Script = Callable[["Reply"], Awaitable[None]]


def call(form: str = "sentence", *, patience: Patience = PATIENT, prefill: str | None = None, on_text: Any = None) -> Call:
    messages = [Message(role="user", content="What is it?")] + ([Message(role="assistant", content=prefill)] if prefill else [])
    return Call(tuple(messages), form, "m", 0.0, 1, 300, 4096, patience, on_text)


@dataclass
class Reply:
    """One request and the means to answer it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    client_gone: asyncio.Event

    async def start(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} x", "content-type: text/event-stream", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def send(self, content: bytes) -> None:
        self.writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def whole(self, status: int, content: bytes, **headers: str) -> None:
        await self.start(status, **headers)
        await self.send(content)
        await self.end()


@dataclass
class FakeLlm:
    """The server; `script` answers every request."""

    script: Script
    requests: list[Reply] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        reply = Reply(first.split()[1], headers, json.loads(content or b"{}"), writer, asyncio.Event())
        self.requests.append(reply)
        script = asyncio.create_task(self.script(reply))
        watch = asyncio.create_task(reader.read())
        try:
            await asyncio.wait({script, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() or isinstance(script.exception(), ConnectionError):
                reply.client_gone.set()
        finally:
            for task in (script, watch):
                task.cancel()
            writer.close()


class OllamaWire:
    """Ollama's format: a JSON object a line."""

    provider = "ollama"

    def client(self, url: str) -> Provider:
        return Ollama(url)

    def piece(self, text: str) -> bytes:
        return json.dumps({"model": "m", "message": {"role": "assistant", "content": text}, "done": False}).encode() + b"\n"

    def last(self, finish_reason: str = "stop", counts: tuple[int, int] | None = (7, 3)) -> bytes:
        counters = {"prompt_eval_count": counts[0], "eval_count": counts[1]} if counts else {}
        return (
            json.dumps({"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": finish_reason, **counters}).encode() + b"\n"
        )

    def error(self, message: str) -> bytes:
        return json.dumps({"error": message}).encode()

    def error_in_stream(self, message: str) -> bytes:
        return self.error(message) + b"\n"

    def nonsense(self) -> bytes:
        return b"<html>hello</html>\n"

    def invalid_utf8(self) -> bytes:
        return self.piece("a b").replace(b"a b", b"a \xff b")

    def models(self, *names: str) -> bytes:
        return json.dumps({"models": [{"model": name, "digest": f"sha-{name}", "details": {"family": "llama"}} for name in names]}).encode()


class OpenAiWire:
    """The OpenAI API's format: server-sent events."""

    provider = "openai"

    def client(self, url: str) -> Provider:
        return OpenAi(f"{url}/v1", sentence_extra={"grammar": "root ::= x"})

    def _event(self, content: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", **content}).encode() + b"\n\n"

    def piece(self, text: str) -> bytes:
        return self._event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

    def last(self, finish_reason: str = "stop", counts: tuple[int, int] | None = (7, 3)) -> bytes:
        end = self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
        if counts:
            end += self._event({"choices": [], "usage": {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}})
        return end + b"data: [DONE]\n\n"

    def error(self, message: str) -> bytes:
        return json.dumps({"error": {"message": message, "type": "some_error", "param": None, "code": None}}).encode()

    def error_in_stream(self, message: str) -> bytes:
        return b"data: " + self.error(message) + b"\n\n"

    def nonsense(self) -> bytes:
        return b"data: <html>hello</html>\n\n"

    def invalid_utf8(self) -> bytes:
        return self.piece("a b").replace(b"a b", b"a \xff b")

    def models(self, *names: str) -> bytes:
        return json.dumps({"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in names]}).encode()


Wire = OllamaWire | OpenAiWire
