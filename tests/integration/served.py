"""`mistudio-explain serve` as a process of its own, with its health port: when it is ready, what it takes, how it ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from integration.local_server import free_ports, last_lines, wait_until

PROGRAM = (str(Path(sys.executable).with_name("mistudio-explain")),)
READY_WITHIN_S = 60.0
STOPS_WITHIN_S = 60.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with those settings of the product alone, by their names without the prefix."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MISTUDIO_EXPLAIN_")}
    return inherited | {f"MISTUDIO_EXPLAIN_{name}": value for name, value in settings.items()}


@dataclass
class Served:
    """One process that serves some services; `settings` are environment variables without the prefix."""

    services: Sequence[str]
    settings: Mapping[str, str]
    folder: Path
    program: Sequence[str] = PROGRAM
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def __post_init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.began = 0.0

    @property
    def log(self) -> Path:
        return self.folder / f"{'-'.join(self.services)}.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process is not None:
            self.stop()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.program, "serve", *self.services, "--health-port", str(self.port)],
                cwd=self.folder,
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def until_ready(self) -> float:
        """Wait until it is ready; returns the seconds since its start. Raises RuntimeError with the end of its log when it ends or takes too long."""
        assert self.process is not None
        process = self.process
        if not wait_until(lambda: process.poll() is not None or self.answer("/readyz")[0] == 200, READY_WITHIN_S) or process.poll() is not None:
            raise RuntimeError(f"{self.services} is not ready ({self.answer('/readyz')}); the end of {self.log}:\n{last_lines(self.log)}")
        return time.monotonic() - self.began

    def answer(self, path: str) -> tuple[int, str]:
        """Status and body of a GET at its health port; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answered:
                return answered.status, answered.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def usage(self) -> psutil.Process:
        """The process, to be measured."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; returns the code with which it ended, -9 when it had to be killed, and the seconds that it took."""
        assert self.process is not None
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code, time.monotonic() - asked
