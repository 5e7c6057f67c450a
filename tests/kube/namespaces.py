"""Namespaces, as an administrator makes them."""

from kube.cluster import KubeCluster

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}


def made(cluster: KubeCluster, name: str) -> str:
    """Make a namespace whose pods must fulfil the standard `restricted`, and return its name."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    return name
