"""The cluster that the tests share, and a namespace of its own for each."""

import secrets
from collections.abc import Iterator

import pytest
from helm_python import Config

from integration.local_server import wait_until
from kube.cluster import KubeCluster, Manifest
from kube.namespaces import made
from shipping.custom_resources import definitions

ESTABLISHED_S = 30.0


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    """A real API server that knows the custom resources of KEDA, prometheus-operator and Strimzi."""
    with KubeCluster(tmp_path_factory.mktemp("kube")) as cluster:
        for each in definitions():
            cluster.apply(each)
        assert wait_until(lambda: all(_is_established(cluster, each) for each in definitions()), ESTABLISHED_S)
        yield cluster


@pytest.fixture
def namespace(cluster: KubeCluster) -> str:
    """A namespace that takes only pods of the standard `restricted`."""
    return made(cluster, f"explain-{secrets.token_hex(4)}")


@pytest.fixture
def helm(cluster: KubeCluster, namespace: str) -> Iterator[Config]:
    """Helm in that namespace."""
    with Config(kubeconfig_path=cluster.kubeconfig, namespace=namespace) as config:
        yield config


def _is_established(cluster: KubeCluster, definition: Manifest) -> bool:
    conditions = cluster.get(definition).get("status", {}).get("conditions", [])
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
