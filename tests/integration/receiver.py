"""A receiver of webhooks: an HTTP server that a test scripts with the answers it gives."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answers` are what it says to each request in turn, the last one to all further ones; empty: nothing, for ever."""

    answers: Sequence[bytes]
    got: list[Message] = field(default_factory=list)
    port: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = self.answers[min(len(self.got), len(self.answers) - 1)]
            self.got.append(Message(head[0].split(" ")[1], headers, body))
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def status(code: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} X", "content-length: 0", *headers, "", ""]).encode()


@asynccontextmanager
async def receiving(*answers: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answers or (status(204),))
    async with await asyncio.start_server(receiver._serve, "127.0.0.1", 0, ssl=context) as server:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver
