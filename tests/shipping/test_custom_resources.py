"""The custom resources of the chart, held to the definitions of the projects that they are for."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from shipping.custom_resources import definitions, schemas, wrong_with
from shipping.rendering import CORE, VALUES, Manifest, rendered

MOST = ("everything", "autoscaling with passwords", "autoscaling with certificates", "strimzi", "strimzi with certificates elsewhere")


def custom(values: Mapping[str, Any]) -> list[Manifest]:
    return [manifest for manifest in rendered(values) if manifest["apiVersion"] not in CORE]


def every_kind() -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for name in MOST for manifest in custom(VALUES[name])}


@pytest.mark.parametrize("name", VALUES)
def test_their_own_definitions_have_nothing_against_them(name: str) -> None:
    for manifest in custom(VALUES[name]):
        assert wrong_with(manifest) == [], manifest["metadata"]["name"]


def test_every_definition_is_of_a_resource_that_the_chart_makes() -> None:
    assert {each["spec"]["names"]["kind"] for each in definitions()} == set(every_kind())
    assert {(version, kind) for version, kind, _ in schemas()} >= {(each["apiVersion"], each["kind"]) for each in every_kind().values()}


@pytest.mark.parametrize("kind", sorted(every_kind()))
def test_a_field_that_a_definition_does_not_name_is_refused(kind: str) -> None:
    planted = copy.deepcopy(every_kind()[kind])
    planted["spec"]["planted"] = True
    assert any("planted" in wrong for wrong in wrong_with(planted))


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", ("spec", "maxReplicaCount"), "4"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "lagThreshold"), 50),
        ("ScaledObject", ("spec", "triggers", 0, "authenticationRef", "names"), "kafka"),
        ("TriggerAuthentication", ("spec", "secretTargetRef", 0, "parameter"), None),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "soon"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expression"), "up"),
        ("KafkaTopic", ("spec", "partitions"), "six"),
        ("KafkaUser", ("spec", "authentication", "type"), "trust"),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: str, path: tuple[str | int, ...], value: object) -> None:
    wrong = copy.deepcopy(every_kind()[kind])
    at: Any = wrong
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert wrong_with(wrong) != []
