"""Load-model servers as processes of their own."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx


class Simulated:
    """A load-model server that runs while the context does; `scale` is how long a second of the model takes, seconds."""

    def __init__(self, profile: str, *, scale: float = 1.0, seed: int = 1) -> None:
        self.scale = scale
        self._command = [sys.executable, "-m", "benchmarks.llm.load_server", profile, "--scale", str(scale), "--seed", str(seed)]
        self.url = ""

    def __enter__(self) -> Self:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"{self._command} ended with code {self._process.wait()} before it said its address")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """Stop it at once, connections and all."""
        self._process.kill()
        self._process.communicate()

    def fail(self, **faults: float) -> None:
        """Make it fail or slow from now on; the fields of Faults."""
        httpx.post(f"{self.url}/faults", json=faults, trust_env=False).raise_for_status()

    def observed(self) -> dict[str, Any]:
        """What it saw so far; the fields of Observed."""
        seen: dict[str, Any] = httpx.get(f"{self.url}/observed", trust_env=False).json()
        return seen
