"""What the real servers of the tests share: a cache for what is fetched or built once, free ports, waiting, stopping."""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mistudio-explain"
STOP_TIMEOUT_S = 30.0
# Below the ephemeral ports (32768 and up): there, a client that knocks at a stopped server can be given the server's own
# port as its source, connect to itself, and keep the server from coming back.
_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(_PORTS, len(_PORTS)):
            candidate = held.enter_context(socket.socket())
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError(f"fewer than {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def listens(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other test runs of this user out while a cache is filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_until(ready: Callable[[], bool], timeout_s: float) -> bool:
    """Ask every 50 ms until the answer is yes; False when it never was."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def run_command(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed. Raises RuntimeError with that when it fails."""
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env, check=False
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: ended with code {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


def start_server(*command: str, log: Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a program that goes on running; it writes to `log`, and Ctrl-C at the tests does not reach it."""
    with log.open("ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True)


def end_server(server: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    """Send a signal and wait for the end, by SIGKILL when there is none after 30 s."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, how)
        os.kill(server.pid, signal.SIGCONT)  # a frozen process cannot stop
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def last_lines(log: Path, count: int = 40) -> str:
    """The end of a server's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.is_file() else f"({log} does not exist)"
