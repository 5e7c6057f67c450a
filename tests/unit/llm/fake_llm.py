"""A server on a real socket that speaks Ollama's, the OpenAI API's or the Anthropic API's wire format, as a test scripts it."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, get_args

import anthropic.types as anthropic_types
import anthropic.types.shared as anthropic_shared
import openai.types as openai_types
import openai.types.chat.chat_completion_chunk as chunks
import openai.types.shared as openai_shared
from openai.types.completion_usage import CompletionUsage, PromptTokensDetails
from pydantic import SecretStr

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.anthropic import Anthropic
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
    """The server; `script` answers every request. With `tls` it speaks that alone; port 0: any that is free."""

    script: Script
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    requests: list[Reply] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self.tls)
        self.url = f"http{'s' if self.tls else ''}://{self.host}:{self._server.sockets[0].getsockname()[1]}"
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

    def tool_call(self) -> bytes:
        called = [{"function": {"name": "explain", "arguments": {}}}]
        message = {"role": "assistant", "content": "", "tool_calls": called}
        return json.dumps({"model": "m", "message": message, "done": False}).encode() + b"\n" + self.last()

    def last(self, finish_reason: str = "stop", counts: tuple[int, int] | None = (7, 3)) -> bytes:
        counters = {"prompt_eval_count": counts[0], "eval_count": counts[1]} if counts else {}
        return (
            json.dumps({"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": finish_reason, **counters}).encode() + b"\n"
        )

    def error(self, message: str, status: int = 400, code: str | None = None) -> bytes:
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
    """The OpenAI API's format: server-sent events, made from the official client's own types."""

    provider = "openai"

    def client(self, url: str) -> Provider:
        return OpenAi(f"{url}/v1", sentence_extra={"grammar": "root ::= x"})

    def _event(self, *choices: chunks.Choice, usage: CompletionUsage | None = None) -> bytes:
        chunk = chunks.ChatCompletionChunk(id="1", object="chat.completion.chunk", created=1, model="m", choices=list(choices), usage=usage)
        return b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"

    def delta(self, **delta: Any) -> bytes:
        return self._event(chunks.Choice(index=0, delta=chunks.ChoiceDelta(**delta), finish_reason=None))

    def piece(self, text: str) -> bytes:
        return self.delta(content=text)

    def tool_call(self) -> bytes:
        called = chunks.ChoiceDeltaToolCall(index=0, id="1", type="function", function=chunks.ChoiceDeltaToolCallFunction(name="explain", arguments="{}"))
        return self.delta(tool_calls=[called]) + self.last("tool_calls")

    def last(self, finish_reason: str = "stop", counts: tuple[int, int] | None = (7, 3), cached: int | None = None) -> bytes:
        end = self._event(chunks.Choice.model_construct(index=0, delta=chunks.ChoiceDelta(), finish_reason=finish_reason))
        if counts:
            details = PromptTokensDetails(cached_tokens=cached) if cached is not None else None
            usage = CompletionUsage(prompt_tokens=counts[0], completion_tokens=counts[1], total_tokens=sum(counts), prompt_tokens_details=details)
            end += self._event(usage=usage)
        return end + b"data: [DONE]\n\n"

    def error(self, message: str, status: int = 400, code: str | None = None, param: str | None = None) -> bytes:
        said = openai_shared.ErrorObject(message=message, type="some_error", param=param, code=code)
        return json.dumps({"error": said.model_dump()}).encode()

    def error_in_stream(self, message: str) -> bytes:
        return b"data: " + self.error(message) + b"\n\n"

    def nonsense(self) -> bytes:
        return b"data: <html>hello</html>\n\n"

    def invalid_utf8(self) -> bytes:
        return self.piece("a b").replace(b"a b", b"a \xff b")

    def models(self, *names: str) -> bytes:
        listed = [openai_types.Model(id=name, object="model", created=1, owned_by="x") for name in names]
        return json.dumps({"object": "list", "data": [model.model_dump() for model in listed]}).encode()


class AnthropicWire:
    """The Anthropic API's format: named server-sent events, made from the official client's own types."""

    provider = "anthropic"

    def client(self, url: str) -> Provider:
        return Anthropic(url, SecretStr("key"))

    def _event(self, event: anthropic_types.RawMessageStreamEvent | anthropic_shared.ErrorResponse) -> bytes:
        return f"event: {event.type}\ndata: {event.model_dump_json(exclude_unset=True)}\n\n".encode()

    def first(self, **usage: int) -> bytes:
        message = anthropic_types.Message(
            id="msg_1", type="message", role="assistant", model="m", content=[], usage=anthropic_types.Usage(**{"input_tokens": 7, "output_tokens": 1} | usage)
        )
        ping = b'event: ping\ndata: {"type": "ping"}\n\n'
        return self._event(anthropic_types.RawMessageStartEvent(type="message_start", message=message)) + ping

    def block(self, index: int, block: anthropic_types.TextBlock | anthropic_types.ThinkingBlock | anthropic_types.ToolUseBlock, *deltas: Any) -> bytes:
        start = anthropic_types.RawContentBlockStartEvent(type="content_block_start", index=index, content_block=block)
        middle = [anthropic_types.RawContentBlockDeltaEvent(type="content_block_delta", index=index, delta=delta) for delta in deltas]
        stop = anthropic_types.RawContentBlockStopEvent(type="content_block_stop", index=index)
        return b"".join(map(self._event, [start, *middle, stop]))

    def piece(self, text: str) -> bytes:
        delta = anthropic_types.TextDelta(type="text_delta", text=text)
        return self._event(anthropic_types.RawContentBlockDeltaEvent(type="content_block_delta", index=0, delta=delta))

    def tool_call(self) -> bytes:
        called = anthropic_types.ToolUseBlock(type="tool_use", id="1", name="explain", input={})
        return self.block(0, called, anthropic_types.InputJSONDelta(type="input_json_delta", partial_json="{}")) + self.last("tool_calls")

    def last(self, finish_reason: str = "stop", counts: tuple[int, int] | None = (7, 3), cached: int | None = None) -> bytes:
        reason = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}.get(finish_reason, finish_reason)
        tokens_in, tokens_out = counts or (None, 0)
        uncached = tokens_in - cached if tokens_in is not None and cached is not None else tokens_in
        usage = anthropic_types.MessageDeltaUsage(output_tokens=tokens_out, input_tokens=uncached, cache_read_input_tokens=cached)
        delta = anthropic_types.raw_message_delta_event.Delta.model_construct(stop_reason=reason)
        end = anthropic_types.RawMessageDeltaEvent.model_construct(type="message_delta", delta=delta, usage=usage)
        return self._event(end) + self._event(anthropic_types.RawMessageStopEvent(type="message_stop"))

    def _error(self, message: str, status: int) -> anthropic_shared.ErrorResponse:
        kind = {
            401: anthropic_shared.AuthenticationErrorObject,
            402: anthropic_shared.BillingErrorObject,
            403: anthropic_shared.PermissionErrorObject,
            404: anthropic_shared.NotFoundErrorObject,
            429: anthropic_shared.RateLimitErrorObject,
            500: anthropic_shared.APIErrorObject,
            504: anthropic_shared.GatewayTimeoutErrorObject,
            529: anthropic_shared.OverloadedErrorObject,
        }.get(status, anthropic_shared.InvalidRequestErrorObject)
        (name,) = get_args(kind.model_fields["type"].annotation)
        return anthropic_shared.ErrorResponse(type="error", error=kind(type=name, message=message), request_id="req_1")

    def error(self, message: str, status: int = 400, code: str | None = None) -> bytes:
        return self._error(message, status).model_dump_json().encode()

    def error_in_stream(self, message: str, status: int = 500) -> bytes:
        return self._event(self._error(message, status))

    def nonsense(self) -> bytes:
        return b"event: message_start\ndata: <html>hello</html>\n\n"

    def invalid_utf8(self) -> bytes:
        return self.piece("a b").replace(b"a b", b"a \xff b")

    def models(self, *names: str, **capabilities: Any) -> bytes:
        released = datetime(2026, 1, 1, tzinfo=UTC)
        listed = [
            anthropic_types.ModelInfo(id=name, type="model", created_at=released, display_name=name, lifecycle="active", **capabilities) for name in names
        ]
        return json.dumps({"data": [model.model_dump(mode="json") for model in listed], "has_more": False, "first_id": None, "last_id": None}).encode()


Wire = OllamaWire | OpenAiWire | AnthropicWire
