"""How connections to LLM servers are opened, bounded and found broken."""

import ipaddress
from collections.abc import AsyncIterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from mistudio_explain.llm.failures import CallFailure, ConnectionDropped, EndpointUnreachable, GarbledReply, TimedOut, TlsFailed

CONNECT_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 5.0
KEPT_ALIVE = 0
"""Connections kept for the next call: none. llama.cpp's server closes idle ones under the client's hands (3 of 24
calls failed with "disconnected without sending a response"); opening one costs nothing beside a call of seconds."""
MAX_REPLY_BYTES = 8 << 20
"""Of one reply. The clients read lines of any length: a server that never ends one would fill the memory. The longest
answer that is taken, 65,536 characters, has 6.5 MB when each token's event has 400 bytes and 4 characters of text."""
_TLS_WRONG = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a certificate that it does not trust, and of a server that answers without TLS (1.1 to 3.4, 3.5). A
handshake that is cut off is none of them: the server may just be starting."""
_HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})  # which one a client uses depends on its version


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine, where no proxy of the environment must be asked."""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def bound_reply(response: Any) -> None:
    """Hook for the responses of a client's HTTP library: reading more than MAX_REPLY_BYTES raises GarbledReply."""
    response.stream = _bounded(response.stream.__class__)(response.stream)


@cache
def _bounded(kind: type) -> type:
    """A bounded stream of the library that `kind` is of: the library checks its class."""
    base: Any = next(each for each in kind.__mro__ if each.__name__ == "AsyncByteStream")

    class Bounded(base):  # type: ignore[misc]
        def __init__(self, whole: Any) -> None:
            self._whole = whole

        async def __aiter__(self) -> AsyncIterator[bytes]:
            length = 0
            async for part in self._whole:
                length += len(part)
                if length > MAX_REPLY_BYTES:
                    raise GarbledReply(f"the reply is longer than {MAX_REPLY_BYTES} bytes")
                yield part

        async def aclose(self) -> None:
            await self._whole.aclose()

    return Bounded


def is_of_http_library(error: Exception) -> bool:
    """Whether an error comes from the HTTP library below a client, past the client's own errors."""
    return type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES


def broken_connection(error: Exception) -> CallFailure:
    """The failure that a connection error of an official client, or of the HTTP library below it, stands for."""
    cause = error if is_of_http_library(error) else error.__cause__ or error
    if isinstance(cause, CallFailure):
        return cause
    name = type(cause).__name__
    if name == "ConnectTimeout":
        return EndpointUnreachable(f"no connection within {CONNECT_TIMEOUT_S:g} s")
    if name == "ConnectError" and any(reason in str(cause) for reason in _TLS_WRONG):
        return TlsFailed(f"TLS fails: {cause}")
    if name == "ConnectError":
        return EndpointUnreachable(f"no connection: {cause}")
    if "Timeout" in name:
        return TimedOut(f"no reply in time: {name}")
    return ConnectionDropped(f"the connection broke: {cause}")
