"""A real PostgreSQL for tests: a cluster of its own on loopback, with a password, that can be stopped, frozen and restarted."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from integration.local_server import free_ports
from mistudio_explain.settings import StoreSettings

_DEBIAN = Path("/usr/lib/postgresql")
_PASSWORD = "a password of the tests"
# Durability against a power cut is not what the tests are about.
_OPTIONS = ("fsync=off", "full_page_writes=off", "max_connections=60", "unix_socket_directories=''", "listen_addresses=127.0.0.1")


def postgres_programs() -> Path | None:
    """The folder with initdb and pg_ctl; None when there is none."""
    if (found := shutil.which("pg_ctl")) is not None:
        return Path(found).parent
    versions = sorted(_DEBIAN.glob("*/bin/pg_ctl"))
    return versions[-1].parent if versions else None


class RealPostgres:
    """A server with its own port and data, which outlive a restart."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="mistudio-postgres-"))  # not pytest's, which other users may not enter
        self.log = self._folder / "postgres.log"
        (self.port,) = free_ports(1)
        self._databases = 0
        self._password_file = self._folder / "password"

    def __enter__(self) -> Self:
        self._password_file.write_text(_PASSWORD + "\n")
        self._folder.chmod(0o755)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self._folder, "postgres")
        self._run("initdb", "--no-sync", "-A", "scram-sha-256", "-U", "tests", f"--pwfile={self._password_file}", "-D", str(self._data))
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and return when it takes connections."""
        options = " ".join(f"-c {option}" for option in (f"port={self.port}", *_OPTIONS))
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.log), "-w", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """Stop: `fast` ends all sessions, `immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "-w", "stop")

    def new_store(self) -> StoreSettings:
        """Settings of a store in an empty database."""
        self._databases += 1
        name = f"store_{self._databases}"
        with psycopg.connect(self._url("postgres"), password=_PASSWORD, autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        return StoreSettings(url=self._url(name), password_file=self._password_file)

    def _url(self, database: str) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        run = subprocess.run(
            (*as_user, str(self._programs / program), *arguments),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if run.returncode != 0:
            raise RuntimeError(f"{program} ended with code {run.returncode}: {run.stderr.decode(errors='replace')}")
