"""An OpenAI-compatible server in a thread that gives one fixed answer to every call, after a fixed time."""

import asyncio
import json
import threading
from types import TracebackType
from typing import Any, Self

ANSWER = {
    "label": "A fixed answer",
    "pattern": "Texts that mention a fixed thing.",
    "significance": "It shows that the model knows the thing.",
    "implications": "None for safety.",
}
USAGE = {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}


class SlowLlm:
    """The server; `calls` counts the calls that asked for an answer."""

    models: tuple[str, ...] = ("fake",)

    def __init__(self, seconds: float) -> None:
        self.calls = 0
        self.url = ""
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length")), 0)
            body = json.loads(await reader.readexactly(length) or b"{}")
            if "/models" in head.splitlines()[0]:
                self._send(writer, "application/json", json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}))
            else:
                self.calls += 1
                await asyncio.sleep(self._seconds)
                if body.get("stream"):
                    self._send(writer, "text/event-stream", self._stream(self.said(body)))
                else:
                    self._send(writer, "application/json", json.dumps(self._whole(self.said(body))))
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            writer.close()

    def said(self, body: dict[str, Any]) -> str:
        """The answer to a call."""
        return json.dumps(ANSWER) if "response_format" in body else ANSWER["pattern"]

    def _send(self, writer: asyncio.StreamWriter, kind: str, content: str) -> None:
        encoded = content.encode()
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(encoded)}\r\nconnection: close\r\n\r\n".encode() + encoded)

    def _whole(self, text: str) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": "fake", "choices": [choice], "usage": USAGE}

    def _stream(self, text: str) -> str:
        common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
        chunks = [
            {**common, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
            {**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**common, "choices": [], "usage": USAGE},
        ]
        return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
