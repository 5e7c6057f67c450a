"""A real S3-compatible server for tests: versitygw over a folder, on loopback, built once into the tests' cache."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from integration.local_server import CACHE, end_server, free_ports, last_lines, listens, locked, run_command, start_server, wait_until

VERSION = "v1.8.0"
START_TIMEOUT_S = 30.0
ACCESS_KEY, SECRET_KEY = "test-key", "test-secret"


def missing_for_s3() -> str | None:
    """Say what this machine lacks to build the server, and what to do; None when nothing."""
    return None if shutil.which("go") or _program().is_file() else "no go on the PATH; install Go (Debian: apt-get install golang-go)"


def s3_program() -> Path:
    """Build the server, once for each user and version; a minute or two."""
    program = _program()
    with locked(CACHE / "versitygw" / "lock"):
        if not program.is_file():
            built = CACHE / "versitygw" / "part"
            environment = os.environ | {"GOBIN": str(built), "GOFLAGS": "-modcacherw"}
            run_command("go", "install", f"github.com/versity/versitygw/cmd/versitygw@{VERSION}", env=environment)
            program.parent.mkdir(parents=True, exist_ok=True)
            (built / program.name).rename(program)
    return program


class RealS3:
    """A server with its own port and data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "s3.log"
        self.data = folder / "data"
        self.data.mkdir()
        (self.port,) = free_ports(1)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self, name: str) -> str:
        """Make a bucket; returns `s3://name`."""
        (self.data / name).mkdir()
        return f"s3://{name}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return when it takes connections. Raises RuntimeError with the log's end if it does not within 30 s."""
        environment = os.environ | {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        server = start_server(str(s3_program()), "--port", f"127.0.0.1:{self.port}", "posix", str(self.data), log=self.log, env=environment)
        self._server = server
        if not wait_until(lambda: server.poll() is not None or listens(self.port), START_TIMEOUT_S) or server.poll() is not None:
            self.stop()
            raise RuntimeError(f"the S3 server did not start on port {self.port} (code {server.returncode}); the end of {self.log}:\n{last_lines(self.log)}")

    def stop(self) -> None:
        """Stop it; the data stay."""
        server, self._server = self._server, None
        if server is not None:
            end_server(server, signal.SIGTERM)


def _program() -> Path:
    return CACHE / "versitygw" / VERSION / "versitygw"
