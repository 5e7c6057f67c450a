"""The chart on a real API server: installed, upgraded and taken away; what the server refuses is refused."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from helm_python import Config

from kube.cluster import KubeCluster, Manifest, Refused
from kube.namespaces import made
from shipping.rendering import CHART, CORE, DISCOVERY, EVERYTHING, SASL, THREE, VALUES, of_kind, rendered

ALL_KINDS = {**EVERYTHING, **DISCOVERY, "kafka": SASL, "strimzi": {"enabled": True, "cluster": "kafka"}}
ELSEWHERE = ("llm", "kafka")  # namespaces that values name


@pytest.fixture(autouse=True, scope="module")
def namespaces_that_values_name(cluster: KubeCluster) -> None:
    for name in ELSEWHERE:
        made(cluster, name)


def present(cluster: KubeCluster, manifests: Sequence[Manifest], namespace: str) -> list[str]:
    found = []
    for each in manifests:
        try:
            cluster.get(each, namespace)
        except Refused as refused:
            assert refused.status == 404  # noqa: PT017  (any other answer is an error of its own)
        else:
            found.append(f"{each['kind']}/{each['metadata']['name']}")
    return found


def named(manifests: Sequence[Manifest]) -> list[str]:
    return [f"{each['kind']}/{each['metadata']['name']}" for each in manifests]


def without_hooks(values: Mapping[str, Any], namespace: str) -> list[Manifest]:
    made_by_helm = rendered(values, namespace=namespace)
    return [each for each in made_by_helm if "helm.sh/hook" not in each["metadata"].get("annotations", {})]


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_takes_every_object_without_a_field_that_it_does_not_know(cluster: KubeCluster, namespace: str, name: str) -> None:
    manifests = rendered(VALUES[name], namespace=namespace)
    for manifest in of_kind(manifests, "ServiceAccount"):  # without which no pod is taken
        cluster.apply(manifest, namespace)
    for manifest in manifests:
        cluster.apply(manifest, namespace, dry_run=True)


def test_a_release_is_installed_upgraded_rolled_back_and_taken_away_but_for_its_reports(cluster: KubeCluster, namespace: str, helm: Config) -> None:
    helm.install(CHART, "explain", dict(ALL_KINDS))
    first = without_hooks(ALL_KINDS, namespace)
    assert present(cluster, first, namespace) == named(first)
    workers = next(each for each in first if each["kind"] == "StatefulSet")
    more = {**ALL_KINDS, "endpoints": THREE, "discovery": "", "autoscaling": {"enabled": False}}
    helm.upgrade(CHART, "explain", more)
    assert cluster.get(workers, namespace)["spec"]["replicas"] == 3
    gone = {"Role", "RoleBinding", "ScaledObject", "TriggerAuthentication"}
    assert not present(cluster, [each for each in first if each["kind"] in gone], namespace)
    helm.rollback("explain", version=1)
    assert present(cluster, [each for each in first if each["kind"] in gone], namespace)
    assert [each["revision"] for each in helm.history("explain")] == [1, 2, 3]
    helm.uninstall("explain")
    claim = [each for each in first if each["kind"] == "PersistentVolumeClaim"]
    assert present(cluster, first, namespace) == named(claim)


def test_an_installation_without_any_values_needs_no_custom_resource(cluster: KubeCluster, namespace: str, helm: Config) -> None:
    helm.install(CHART, "explain", {})
    installed = without_hooks({}, namespace)
    assert present(cluster, installed, namespace) == named(installed)
    assert {each["apiVersion"] for each in installed} <= CORE


def test_two_releases_stand_beside_each_other(cluster: KubeCluster, namespace: str, helm: Config) -> None:
    helm.install(CHART, "first", dict(EVERYTHING))
    helm.install(CHART, "second", dict(EVERYTHING))
    helm.uninstall("first")
    second = [each for each in rendered(EVERYTHING, "second", namespace=namespace) if "helm.sh/hook" not in each["metadata"].get("annotations", {})]
    assert present(cluster, second, namespace) == named(second)


def one_of_each_kind() -> dict[str, Manifest]:
    return {each["kind"]: each for each in rendered(ALL_KINDS)}


@pytest.mark.parametrize("kind", sorted(one_of_each_kind()))
def test_a_planted_field_is_refused_in_every_kind_of_object(cluster: KubeCluster, namespace: str, kind: str) -> None:
    planted: dict[str, Any] = copy.deepcopy(dict(one_of_each_kind()[kind]))
    planted.get("spec", planted)["planted"] = True
    with pytest.raises(Refused, match="planted"):
        cluster.apply(planted, namespace, dry_run=True)


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("ScaledObject", ("maxReplicaCount",), "4", "maxReplicaCount"),
        ("ScaledObject", ("triggers", 0, "metadata", "lagThreshold"), 50, "lagThreshold"),
        ("PodMonitor", ("podMetricsEndpoints", 0, "interval"), "soon", "interval"),
        ("PrometheusRule", ("groups", 0, "rules", 0, "for"), "a while", "for"),
        ("KafkaTopic", ("partitions",), "six", "partitions"),
        ("KafkaUser", ("authentication", "type"), "trust", "type"),
    ],
)
def test_a_wrong_value_in_a_custom_resource_is_refused_by_the_api_server(
    cluster: KubeCluster, namespace: str, kind: str, path: tuple[str | int, ...], value: object, said: str
) -> None:
    wrong = copy.deepcopy(one_of_each_kind()[kind])
    at: Any = wrong["spec"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(Refused, match=said):
        cluster.apply(wrong, namespace, dry_run=True)
