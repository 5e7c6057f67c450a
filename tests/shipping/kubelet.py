"""What a kubelet does for a pod, as far as its one process goes: volumes of config maps and secrets, environment, command, probes."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from integration.local_server import end_server, free_ports, start_server, wait_until
from integration.test_whole_way import PROGRAM
from shipping.rendering import Manifest, of_kind

HEALTH_PORT = "9400"


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A pod's process."""

    process: "subprocess.Popen[bytes]"
    log: Path
    health: str

    def answers(self, path: str) -> bool:
        """Whether a probe would succeed."""
        try:
            return httpx.get(f"{self.health}{path}").is_success
        except httpx.TransportError:
            return False

    def end(self, within_s: float) -> int:
        """Stop it as a kubelet does, and return its exit code. Raises TimeoutExpired when it takes longer."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)


@contextmanager
def running(template: Manifest, name: str, objects: Sequence[Manifest], folder: Path) -> Iterator[RunningPod]:
    """Run the container of a pod with the config maps and secrets among the objects; `folder` stands for the container's file system.

    Only addresses differ: processes of one machine share its ports, and nothing listens beyond loopback.
    """
    spec, root = template["spec"], folder / name
    root.mkdir()
    (container,) = spec["containers"]
    (health,) = free_ports(1)
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    moved = {f"{path}/": f"{root}{path}/" for path in places.values()} | {"0.0.0.0": "127.0.0.1"}
    for volume in spec["volumes"]:
        place = root / places[volume["name"]].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for file, content in _content(volume, objects).items():
            (place / file).write_text(_replaced(content, moved))
    environment = {each["name"]: each.get("value") or name for each in container.get("env", ())}  # all that a field is asked of is the name
    told = moved | {HEALTH_PORT: str(health)} | {f"$({variable})": value for variable, value in environment.items()}
    arguments = [_replaced(f"{argument}", told) for argument in container["args"]]
    inherited = {variable: value for variable, value in os.environ.items() if not variable.startswith("MISTUDIO_EXPLAIN_")}
    process = start_server(str(PROGRAM), *arguments, log=root / "log", env={**inherited, **environment})
    try:
        yield RunningPod(process, root / "log", f"http://127.0.0.1:{health}")
    finally:
        end_server(process, signal.SIGKILL)


def is_ready(pod: RunningPod, within_s: float) -> bool:
    """Whether the readiness probe succeeds in time."""
    return wait_until(lambda: pod.process.poll() is not None or pod.answers("/readyz"), within_s) and pod.process.poll() is None


def _content(volume: Mapping[str, Any], objects: Sequence[Manifest]) -> Mapping[str, str]:
    content: Mapping[str, str] = {}
    if "configMap" in volume:
        content = _named(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    elif "secret" in volume:
        content = _named(objects, "Secret", volume["secret"]["secretName"])["stringData"]
    return content


def _named(objects: Sequence[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def _replaced(text: str, told: Mapping[str, str]) -> str:
    """At one go, since what is put in may hold what is looked for."""
    return re.sub("|".join(re.escape(before) for before in told), lambda found: told[found.group()], text)
