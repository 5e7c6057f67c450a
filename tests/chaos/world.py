"""The services of a chaos run, each in a process of its own, and what can be done to a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checker import Finding
from chaos.fake_llm import MODEL, FakeLlm

PROGRAM = Path(sys.executable).with_name("mistudio-explain")
REPLICAS = {"context": 2, "generation": 2, "validation": 2, "aggregator": 1, "redelivery": 1, "replayer": 0}
"""One aggregator, because its store is SQLite."""

ENDED_BY_ITSELF = "service that ended by itself"

_STOP_S = 30.0
_RESTART_PAUSE_S = 1.0


@dataclass
class Replica:
    """One service's process, and its successors."""

    service: str
    name: str
    environment: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    exits: list[int] = field(default_factory=list)
    """The codes with which it ended by itself; a service should never."""

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(PROGRAM), "serve", self.service],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def send(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.process = None


@dataclass
class Publishing:
    """`mistudio-explain publish` on its way; done when it has ended with 0, however often it had to be started."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "publish.log").open("ab") as out:
            self.process = subprocess.Popen(
                [str(PROGRAM), "publish", *self.arguments], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def is_done(self) -> bool:
        """Whether it has ended well; one that ended otherwise is started again."""
        assert self.process is not None
        code = self.process.poll()
        if code not in {None, 0}:
            self.start()
        return code == 0


@dataclass
class World:
    """All replicas against one Kafka and one model."""

    folder: Path
    bootstrap: str
    llm: FakeLlm
    settings: Mapping[str, str]
    """Beside addresses and names: environment variables without the prefix."""
    slots: int

    def __post_init__(self) -> None:
        self.replicas: list[Replica] = []
        self._absent: set[str] = set()
        self._restart_at: dict[str, float] = {}

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def start(self) -> None:
        """Make the topics and start every service that this version has."""
        subprocess.run([str(PROGRAM), "topics", "create"], cwd=self.folder, env=self.environment(), check=True, capture_output=True, timeout=120)
        for service in self._services():
            for number in range(1, REPLICAS.get(service, 0) + 1):
                name = f"{service}-{number}"
                self.replicas.append(Replica(service, name, self.environment(name), self.folder))
        for replica in self.replicas:
            replica.start()

    def environment(self, name: str | None = None) -> dict[str, str]:
        """The environment of a replica, or of a command."""
        endpoint = {"name": name or "llm", "provider": "openai", "url": self.llm.url(name or "command"), "models": [MODEL], "slots": self.slots}
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "LLM__ENDPOINTS": json.dumps([endpoint]),
            "STORE__URL": f"sqlite:///{self.folder}/state/explain.db",
            "REPORTS__DIRECTORY": str(self.reports),
            **({"KAFKA__INSTANCE_ID": name} if name else {}),
            **self.settings,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MISTUDIO_EXPLAIN_")}
        return inherited | {f"MISTUDIO_EXPLAIN_{key}": value for key, value in settings.items()}

    def named(self, name: str) -> Replica:
        return next(replica for replica in self.replicas if replica.name == name)

    def kill(self, name: str, *, comes_back: bool = True) -> None:
        """Kill a replica, and start its successor at once unless it stays away."""
        replica = self.named(name)
        if replica.is_running:
            replica.kill()
        self._absent.discard(name)
        if comes_back:
            replica.start()
        else:
            self._absent.add(name)

    def bring_back(self, name: str) -> None:
        self._absent.discard(name)
        self.named(name).start()

    def tend(self) -> None:
        """Start again what has ended by itself, as any supervisor would, with a second between."""
        for replica in self.replicas:
            if replica.is_running or replica.name in self._absent:
                continue
            if replica.process is not None:
                replica.exits.append(replica.process.returncode)
                replica.process = None
                self._restart_at[replica.name] = time.monotonic() + _RESTART_PAUSE_S
            elif time.monotonic() >= self._restart_at.get(replica.name, 0.0):
                replica.start()

    def ended_by_themselves(self) -> list[Finding]:
        """A service waits for whatever is away: one that ended without being killed or told to is a finding, although it was started again."""
        return [
            Finding(ENDED_BY_ITSELF, replica.name, f"it ended with code {code}; {replica.log} says why") for replica in self.replicas for code in replica.exits
        ]

    def publish(self, path: Path) -> Publishing:
        """Publish a find job as its upstream would."""
        patient = self.environment() | {"MISTUDIO_EXPLAIN_KAFKA__START_TIMEOUT_S": "60"}
        publishing = Publishing([str(path), "--json"], patient, self.folder)
        publishing.start()
        return publishing

    def stop(self) -> dict[str, int]:
        """Ask every service to stop; returns the code with which each ended, -9 for one that had to be killed."""
        for replica in self.replicas:
            if replica.is_running:
                replica.send(signal.SIGCONT)
                replica.send(signal.SIGTERM)
        codes = {}
        deadline = time.monotonic() + _STOP_S
        for replica in self.replicas:
            if replica.process is None:
                continue
            try:
                codes[replica.name] = replica.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                replica.kill()
                codes[replica.name] = -signal.SIGKILL
        return codes

    def _services(self) -> list[str]:
        """The services that `serve` has: it lists them when it is asked for one that it has not."""
        asked = subprocess.run(
            [str(PROGRAM), "serve", "nothing"], cwd=self.folder, env=self.environment(), check=False, capture_output=True, text=True, timeout=60
        )
        listed = asked.stderr.rpartition("there are ")[2]
        found = [service for service in REPLICAS if service in " ".join(listed.split())]
        assert {"context", "generation", "validation", "aggregator"} <= set(found), asked.stderr
        return found
