"""A DNS server on a loopback port, and this machine's own resolver pointed at it."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread

from integration.components import require

_A, _NXDOMAIN, _ANSWER = 1, 3, 0x8180


class LocalDns:
    """Answers with the addresses (IPv4) that `zone` has for a name now; a name that it lacks does not exist."""

    def __init__(self) -> None:
        self.zone: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.port = 0
        self._serving: Thread | None = None
        self._ends = Event()

    def start(self) -> None:
        """Listen, on the same port as before."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("127.0.0.1", self.port))
        listening.settimeout(0.05)
        self.port = listening.getsockname()[1]
        self._ends.clear()
        self._serving = Thread(target=self._serve, args=(listening,))
        self._serving.start()

    def stop(self) -> None:
        """Be away: who asks is told at once that nobody listens."""
        self._ends.set()
        if self._serving is not None:
            self._serving.join()

    def _serve(self, listening: socket.socket) -> None:
        with listening:
            while not self._ends.is_set():
                with suppress(TimeoutError):
                    question, sender = listening.recvfrom(512)
                    listening.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", 12)
        name, kind = _name(question[12:end]), struct.unpack(">H", question[end + 1 : end + 3])[0]
        self.asked.append(name)
        addresses = self.zone.get(name, []) if kind == _A else []
        code = 0 if name in self.zone else _NXDOMAIN
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 1, 4) + socket.inet_aton(address) for address in addresses)
        return question[:2] + struct.pack(">HHHHH", _ANSWER | code, 1, len(addresses), 0, 0) + question[12 : end + 5] + records


def _name(labels: bytes) -> str:
    parts, at = [], 0
    while at < len(labels):
        length = labels[at]
        parts.append(labels[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(parts)


class _Address(ctypes.Structure):
    _fields_ = (("family", ctypes.c_uint16), ("port", ctypes.c_uint16), ("address", ctypes.c_uint8 * 4), ("zero", ctypes.c_uint8 * 8))


class _ResolverState(ctypes.Structure):
    """The beginning of glibc's `struct __res_state` (resolv/bits/types/res_state.h)."""

    _fields_ = (
        ("retrans", ctypes.c_int),
        ("retry", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("nscount", ctypes.c_int),
        ("nsaddr_list", _Address * 3),
    )


def _asking(port: int) -> Callable[[], None]:
    """Let the resolver of the thread that calls it ask 127.0.0.1 at a port: resolv.conf knows no other port than 53."""
    libc = ctypes.CDLL(None)
    libc.__res_state.restype = ctypes.POINTER(_ResolverState)

    def point() -> None:
        libc.__res_init()
        state = libc.__res_state().contents
        state.retrans, state.retry, state.nscount = 1, 1, 1
        server = state.nsaddr_list[0]
        server.family, server.port, server.address[:] = socket.AF_INET, socket.htons(port), socket.inet_aton("127.0.0.1")

    return point


@contextmanager
def local_dns() -> Iterator[LocalDns]:
    """A DNS server that the running loop's `getaddrinfo` asks."""
    if not hasattr(ctypes.CDLL(None), "__res_state"):
        require("glibc", "only its resolver can be pointed at a DNS server on another port")
    server = LocalDns()
    server.start()
    threads = ThreadPoolExecutor(4, initializer=_asking(server.port))
    asyncio.get_running_loop().set_default_executor(threads)
    try:
        yield server
    finally:
        server.stop()
