"""A real Apache Kafka for tests: one KRaft node on loopback that can be stopped, killed and restarted."""

import asyncio
import hashlib
import shutil
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from integration.local_server import CACHE, STOP_TIMEOUT_S, end_server, free_ports, last_lines, listens, locked, run_command, start_server, wait_until

RECIPE = Path(__file__).parent / "kafka"
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
START_TIMEOUT_S = 60.0  # a first start took 20 s on a loaded machine
# A broker of the tests lives for seconds: a quick start is worth more than the second compiler's code.
JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

T = TypeVar("T")


def missing_for_kafka() -> str | None:
    """Say what this machine lacks to run Kafka, and what to do; None when nothing."""
    lacking = [program for program in ("java", "keytool", "mvn") if shutil.which(program) is None]
    return f"no {', '.join(lacking)} on the PATH; install a JDK of version 17 or newer, and Maven" if lacking else None


def kafka_jars() -> Path:
    """Fetch Kafka's jars, once for each user and state of pom.xml; returns their folder."""
    pom = RECIPE / "pom.xml"
    jars = CACHE / "kafka" / hashlib.sha256(pom.read_bytes()).hexdigest()[:8]
    with locked(CACHE / "kafka" / "lock"):
        if not jars.is_dir():
            fetched = jars.with_suffix(".part")
            shutil.rmtree(fetched, ignore_errors=True)
            run_command("mvn", "-q", "-B", "-f", str(pom), COPY_JARS, "-DincludeScope=runtime", f"-DoutputDirectory={fetched}")
            fetched.rename(jars)
    return jars


class RealKafka:
    """A broker with its own ports and data, which outlive a restart.

    All methods block; an async test calls them by `await asyncio.to_thread(kafka.restart)`.
    """

    protocol = "PLAINTEXT"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "kafka.log"
        self.port, self._controller_port = free_ports(2)
        self._data = folder / "data"
        self._properties = folder / "server.properties"
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def client_options(self) -> Mapping[str, Any]:
        """What an aiokafka client that may do anything is made with."""
        return {"bootstrap_servers": self.bootstrap}

    @property
    def runs(self) -> bool:
        """Whether the broker was started and not stopped since."""
        return self._server is not None

    @property
    def pid(self) -> int:
        """The broker's process, to freeze or to measure it."""
        assert self._server is not None, "the broker does not run"
        return self._server.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def start(self) -> None:
        """Start, and return when the broker answers an admin call. Raises RuntimeError with the log's end if it does not within 60 s."""
        assert self._server is None, "the broker runs already"
        if not (self._data / "meta.properties").is_file():
            self._format()
        server = start_server(*self._java("kafka.Kafka", str(self._properties)), log=self.log)
        self._server = server
        ready = wait_until(lambda: server.poll() is not None or self._answers(), START_TIMEOUT_S)
        if not ready or server.returncode is not None:
            self.kill()
            raise RuntimeError(f"Kafka did not start on port {self.port} (code {server.returncode}); the end of {self.log}:\n{last_lines(self.log)}")

    def stop(self) -> None:
        """Stop cleanly, as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start again on the same ports and data, after a clean stop if the broker still runs."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop, and remove the data; the log stays."""
        self.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def run_tool(self, main_class: str, *arguments: str) -> str:
        """Run one of Kafka's own commands, such as `org.apache.kafka.tools.consumer.group.ConsumerGroupCommand`, against this broker.

        Returns what it printed. Raises RuntimeError with it when the command fails.
        """
        return run_command(*self._java(main_class, "--bootstrap-server", self.bootstrap, *self._tool_options(), *arguments))

    def delete_topics(self, prefix: str) -> None:
        """Delete the topics whose names begin so, with what groups committed for them, and wait until they are gone."""

        async def none_left(admin: AIOKafkaAdminClient) -> bool:
            found = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
            if found:
                await admin.delete_topics(found)
            return not found

        if not wait_until(lambda: self._ask(none_left), STOP_TIMEOUT_S):
            raise RuntimeError(f"topics {prefix}* are still there after {STOP_TIMEOUT_S:.0f} s")

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        return ["java", *JVM, f"-Dlog4j2.configurationFile=file:{RECIPE / 'log4j2.xml'}", "-cp", f"{kafka_jars()}/*", main_class, *arguments]

    def _format(self) -> None:
        self._properties.write_text(self._configuration())
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # with `=`: an id that begins with a dash would else be taken for an option
        run_command(
            *self._java("kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", f"--config={self._properties}", *self._scram_users())
        )

    def _configuration(self) -> str:
        template = Template((RECIPE / "server.properties").read_text())
        return template.substitute(protocol=self.protocol, port=self.port, controller_port=self._controller_port, log_dir=self._data)

    def _scram_users(self) -> Sequence[str]:
        return ()

    def _tool_options(self) -> Sequence[str]:
        return ()

    def _answers(self) -> bool:
        async def registered(admin: AIOKafkaAdminClient) -> bool:
            return bool((await admin.describe_cluster())["brokers"])

        try:
            return listens(self.port) and self._ask(registered)
        except (KafkaError, OSError, TimeoutError):
            return False

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, T]]) -> T:
        async def ask() -> T:
            admin = AIOKafkaAdminClient(**self.client_options, request_timeout_ms=5_000)
            try:
                await admin.start()
                return await question(admin)
            finally:
                await admin.close()

        # in a thread of its own, so that it works whether or not the caller's has a running event loop
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(ask())).result()

    def _end(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is not None:
            end_server(server, how)
