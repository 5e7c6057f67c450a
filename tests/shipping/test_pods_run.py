"""The chart's pods, run for real: their commands, with the config and the secrets that they mount, on a real Kafka and a real PostgreSQL."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chaos.fake_llm import MODEL, Character, FakeLlm
from integration.local_server import free_ports
from integration.real_kafka import RealKafka
from integration.real_postgres import RealPostgres
from shipping.kubelet import RunningPod, is_ready, running
from shipping.rendering import Manifest, of_kind, pods, rendered

READY_S = 120.0
GRACE_S = 60.0  # of the pods' 330; nothing is in flight


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    with FakeLlm(Character(1, faulty=0.0)) as server:
        yield server


@pytest.fixture
def objects(clean_kafka: RealKafka, postgres: RealPostgres, llm: FakeLlm) -> list[Manifest]:
    """A release on the tests' servers, and the secret that an administrator made before it."""
    store = postgres.new_store()
    assert store.password_file is not None
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {"password": store.password_file.read_text()}}
    port, database = store.url.rpartition(":")[2].split("/")
    (gateway,) = free_ports(1)
    values: Mapping[str, Any] = {
        "kafka": {"bootstrapServers": clean_kafka.bootstrap},
        "postgresql": {"host": "127.0.0.1", "port": int(port), "database": database, "user": "tests", "passwordSecret": {"name": "database"}},
        "endpoints": [{"name": f"gpu{number}", "provider": "openai", "url": llm.url(f"gpu{number}"), "models": [MODEL], "slots": 2} for number in range(2)],
        "gateway": {"port": gateway},
    }
    return [*rendered(values), secret]


def templates(objects: list[Manifest]) -> dict[str, Manifest]:
    """The pods by what they do."""
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in pods(objects)}


def code_of(pod: RunningPod) -> int:
    return pod.process.wait(READY_S)


def test_helm_test_says_what_is_missing_and_succeeds_once_the_job_made_the_topics(objects: list[Manifest], llm: FakeLlm, tmp_path: Path) -> None:
    run = templates(objects)
    with running(run["doctor"], "before", objects, tmp_path) as pod:
        assert code_of(pod) == 3
        assert "topics create" in " ".join(pod.log.read_text().split())
    with running(run["topics"], "topics", objects, tmp_path) as pod:
        assert code_of(pod) == 0, pod.log.read_text()
    with running(run["doctor"], "doctor", objects, tmp_path) as pod:
        assert code_of(pod) == 0, pod.log.read_text()
    llm.go_away()
    with running(run["doctor"], "without-models", objects, tmp_path) as pod:
        assert code_of(pod) == 3


def test_all_workloads_get_ready_and_stop_within_their_grace(objects: list[Manifest], tmp_path: Path) -> None:
    run = templates(objects)
    with running(run["topics"], "topics", objects, tmp_path) as pod:
        assert code_of(pod) == 0, pod.log.read_text()
    (workers,) = of_kind(objects, "StatefulSet")
    started = [(run[name], name) for name in ("context", "validation", "redelivery", "aggregator")]
    started += [(run["generation"], f"{workers['metadata']['name']}-{number}") for number in range(workers["spec"]["replicas"])]
    with ExitStack() as stack:
        started_pods = [stack.enter_context(running(template, name, objects, tmp_path)) for template, name in started]
        for pod in started_pods:
            assert is_ready(pod, READY_S), pod.log.read_text()
            assert pod.answers("/livez")
            assert pod.answers("/metrics")
        assert [pod.end(GRACE_S) for pod in started_pods] == [0] * len(started)
