"""Services of two versions on one Kafka, each in a process of its own, that take each other's places one by one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chaos.fake_llm import MODEL, FakeLlm
from chaos.world import Replica

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
GRACE_S = 30.0
WAIT_S = 120.0
SLOTS = 4
SLOWED = 20.0


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the services: where its code lies, and what it is set to beside what both know."""

    name: str
    code: Path
    store: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Fleet:
    """The services that run now, by name, such as `generation-2`."""

    folder: Path
    bootstrap: str
    llm: FakeLlm
    say: Callable[[str], None]
    running: dict[str, Replica] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stopped_with: list[tuple[str, int]] = field(default_factory=list)
    """Services that did not end with 0 when they were told to stop."""

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def environment(self, version: Version, name: str | None = None) -> dict[str, str]:
        """The environment of a service, or of a command."""
        endpoint = {"name": name or "llm", "provider": "openai", "url": self.llm.url(name or "command"), "models": [MODEL], "slots": SLOTS}
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA__SESSION_TIMEOUT_MS": "6000",
            "KAFKA__START_TIMEOUT_S": "60",
            "LLM__ENDPOINTS": json.dumps([endpoint]),
            "LIMITS__EXPRESS_FEATURES": "10",
            "STORE__URL": f"sqlite:///{self.folder}/{version.store}/explain.db",
            "REPORTS__DIRECTORY": str(self.reports),
            "REPORTS__INTERVAL_S": "0.5",
            **({"KAFKA__INSTANCE_ID": name} if name else {}),
            **version.settings,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MISTUDIO_EXPLAIN_")}
        return inherited | {f"MISTUDIO_EXPLAIN_{key}": value for key, value in settings.items()} | {"PYTHONPATH": str(version.code)}

    def command(self, version: Version, *arguments: str) -> str:
        """Run a command of a version to its end; returns what it printed. Raises RuntimeError with all of it when it fails."""
        run = subprocess.run(
            [str(PROGRAM), *arguments], cwd=self.folder, env=self.environment(version), capture_output=True, text=True, check=False, timeout=WAIT_S
        )
        if run.returncode:
            raise RuntimeError(f"{version.name} {' '.join(arguments)} ended with {run.returncode}: {run.stdout}{run.stderr}")
        return run.stdout

    def start(self, version: Version, *names: str) -> None:
        """Start services."""
        for name in names:
            replica = Replica(name.partition("-")[0], name, self.environment(version, name), self.folder)
            replica.start()
            self.running[name], self.versions[name] = replica, version.name

    def replace(self, version: Version, *names: str) -> None:
        """Stop services one after the other, each as an orchestrator would, and start those of another version in their places."""
        for name in names:
            self.say(f"{self.llm.answered:4} answered: {name} {self.versions[name]} -> {version.name}")
            self.llm.slowness = SLOWED  # so that work is left for the one that comes
            known = len(self.llm.first_seen.get(name, ()))
            self._stop(name)
            self.start(version, name)
            if name.startswith("generation"):
                self.until(lambda name=name, known=known: len(self.llm.first_seen.get(name, ())) > known, f"{name} to ask for its models")  # type: ignore[misc]
            self.llm.slowness = 1.0

    def stop(self) -> None:
        """Stop everything."""
        for name in list(self.running):
            self._stop(name)

    def ended_by_themselves(self) -> list[str]:
        """Services that nobody stopped and that do not run."""
        return [name for name, replica in self.running.items() if not replica.is_running]

    def _stop(self, name: str) -> None:
        replica = self.running.pop(name)
        assert replica.process is not None
        if replica.is_running:
            replica.send(signal.SIGTERM)
        try:
            code = replica.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            replica.kill()
            code = -signal.SIGKILL
        if code:
            self.stopped_with.append((name, code))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something; raises TimeoutError when nobody gets on with it for long, RuntimeError when a service has ended by itself."""
        deadline, answered = time.monotonic() + WAIT_S, -1
        while not condition():
            if ended := self.ended_by_themselves():
                raise RuntimeError(f"{', '.join(ended)} ended by itself while waiting for {what}; its log lies in {self.folder}")
            if self.llm.answered != answered:
                deadline, answered = time.monotonic() + WAIT_S, self.llm.answered
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come about; {self.llm.answered} features were answered; logs lie in {self.folder}")
            time.sleep(0.1)
