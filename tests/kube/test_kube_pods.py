"""The pods of the chart in a namespace that enforces the standard `restricted`: all of them are taken, and what asks for more is not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kube.cluster import KubeCluster, Manifest, Refused
from shipping.rendering import VALUES, of_kind, pods, rendered


def pod_of(template: Manifest, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}


@pytest.mark.parametrize("values", VALUES)
def test_a_namespace_that_enforces_restricted_takes_every_pod(cluster: KubeCluster, namespace: str, values: str) -> None:
    manifests = rendered(VALUES[values], namespace=namespace)
    for each in of_kind(manifests, "ServiceAccount"):
        cluster.apply(each, namespace)
    templates = pods(manifests)
    for number, template in enumerate(templates):
        taken = cluster.apply(pod_of(template, f"pod-{number}"), namespace)
        has_token = any("projected" in volume for volume in taken["spec"]["volumes"])
        assert has_token == template["spec"]["automountServiceAccountToken"]
    assert len(cluster.objects("v1", "Pod", namespace)) == len(templates) >= 6


def as_root(spec: dict[str, Any]) -> None:
    spec["securityContext"]["runAsUser"] = 0


def maybe_root(spec: dict[str, Any]) -> None:
    del spec["securityContext"]["runAsNonRoot"]


def with_privileges(spec: dict[str, Any]) -> None:
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True


def with_a_capability(spec: dict[str, Any]) -> None:
    spec["containers"][0]["securityContext"]["capabilities"] = {"drop": ["ALL"], "add": ["SYS_PTRACE"]}


def with_any_system_call(spec: dict[str, Any]) -> None:
    spec["securityContext"]["seccompProfile"] = {"type": "Unconfined"}


def with_the_nodes_files(spec: dict[str, Any]) -> None:
    spec["volumes"].append({"name": "node", "hostPath": {"path": "/etc"}})


@pytest.mark.parametrize("asks", [as_root, maybe_root, with_privileges, with_a_capability, with_any_system_call, with_the_nodes_files])
def test_a_pod_that_asks_for_more_is_refused(cluster: KubeCluster, namespace: str, asks: Callable[[dict[str, Any]], None]) -> None:
    manifests = rendered({}, namespace=namespace)
    cluster.apply(of_kind(manifests, "ServiceAccount")[0], namespace)
    planted = copy.deepcopy(pod_of(pods(manifests)[0], "planted"))
    asks(planted["spec"])
    with pytest.raises(Refused, match='violates PodSecurity "restricted'):
        cluster.apply(planted, namespace)
