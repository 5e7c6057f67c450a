"""A real Prometheus (Debian's package `prometheus`) on loopback, which scrapes what it is told every second."""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from integration.local_server import end_server, free_ports, last_lines, start_server, wait_until

INSTALL = "install Debian's package prometheus, whose server need not run"
EVERY_S = 1.0
_START_S = 30.0


def program(name: str) -> str | None:
    """`prometheus` or `promtool`, None where there is none."""
    return shutil.which(name)


class RealPrometheus:
    """A server with the rules of a file; `targets` are addresses by instance, all of them in the job `mistudio-explain`."""

    def __init__(self, folder: Path, targets: Mapping[str, str], rules: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "prometheus.log"
        self.port = free_ports(1)[0]
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        configuration = {
            "global": {"scrape_interval": f"{EVERY_S:.0f}s", "scrape_timeout": f"{EVERY_S:.0f}s", "evaluation_interval": "2s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "mistudio-explain",
                    "static_configs": [{"targets": [address], "labels": {"instance": instance}} for instance, address in targets.items()],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def __enter__(self) -> Self:
        found = program("prometheus")
        assert found is not None, INSTALL
        storage = f"--storage.tsdb.path={self._folder / 'data'}"
        listening = f"--web.listen-address=127.0.0.1:{self.port}"
        server = start_server(found, f"--config.file={self._folder / 'prometheus.yml'}", storage, listening, "--log.level=warn", log=self.log)
        self._server = server
        if not wait_until(lambda: server.poll() is not None or self._is_ready(), _START_S) or server.poll() is not None:
            end_server(server, signal.SIGKILL)
            raise RuntimeError(f"Prometheus did not start; the end of {self.log}:\n{last_lines(self.log)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        end_server(self._server, signal.SIGTERM)

    def query(self, expression: str, *, at_s: float | None = None) -> list[Mapping[str, Any]]:
        """The result of an expression at a moment, seconds since 1970 UTC; absent: now."""
        return self._ask("query", {"query": expression, **({} if at_s is None else {"time": str(at_s)})})

    def query_range(self, expression: str, begin_s: float, end_s: float) -> list[Mapping[str, Any]]:
        """The result of an expression over a time, as a panel of a dashboard asks for it."""
        return self._ask("query_range", {"query": expression, "start": str(begin_s), "end": str(end_s), "step": "1"})

    def _ask(self, what: str, parameters: Mapping[str, str]) -> list[Mapping[str, Any]]:
        body = urllib.parse.urlencode(parameters).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", body, timeout=30) as answered:
            result: list[Mapping[str, Any]] = json.load(answered)["data"]["result"]
            return result

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answered:
                return bool(answered.status == 200)
        except OSError:
            return False
