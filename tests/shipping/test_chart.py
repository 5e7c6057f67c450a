"""The chart, rendered by Helm itself over many values: what Kubernetes' own schemas say of it, and what our services say of their settings."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError
from helm_python.chart import lint

from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import EndpointSettings, Settings
from shipping.rendering import CHART, CORE, KUBERNETES, THREE, VALUES, Manifest, files_of, of_kind, pods, rendered

# KEDA accepts any key in a trigger's metadata, so that a wrong one would go unnoticed: those of its Kafka scaler (keda.sh, "Apache Kafka")
KAFKA_SCALER = {
    "bootstrapServers", "consumerGroup", "topic", "lagThreshold", "activationLagThreshold", "offsetResetPolicy", "allowIdleConsumers",
    "scaleToZeroOnInvalidOffset",
    "version", "partitionLimitation", "excludePersistentLag", "limitToPartitionsWithLag", "ensureEvenDistributionOfPartitions", "tls", "sasl", "username",
}  # fmt: skip


def test_helm_finds_nothing_wrong() -> None:
    assert lint(CHART)["errors"] == []


@pytest.fixture(params=VALUES, scope="module")
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(VALUES[request.param])


def test_every_object_of_the_core_is_as_kubernetes_wants_it(manifests: list[Manifest]) -> None:
    core = [manifest for manifest in manifests if manifest["apiVersion"] in CORE]
    assert len(core) > 10
    for manifest in core:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_process_gets_settings_that_it_takes(manifests: list[Manifest]) -> None:
    for text in files_of(manifests).values():
        Settings.model_validate(tomllib.loads(text))


def test_pods_may_do_as_little_as_the_restricted_standard_wants(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_every_secret_and_file_that_a_pod_mounts_is_one_of_its_volumes(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        spec = pod["spec"]
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_a_pod_has_longer_to_stop_than_its_calls_have_to_end(manifests: list[Manifest]) -> None:
    settings = Settings.model_validate(tomllib.loads(files_of(manifests)["mistudio-explain.toml"]))
    longest = settings.llm.deadline_s
    assert all(pod["spec"]["terminationGracePeriodSeconds"] > settings.limits.grace_s >= longest for pod in pods(manifests))


def test_there_is_one_generation_worker_for_each_endpoint_which_drives_it_alone() -> None:
    manifests = rendered({"endpoints": THREE}, name="mistudio-explain")
    (workers,) = of_kind(manifests, "StatefulSet")
    assert workers["spec"]["replicas"] == 3
    assert "/etc/mistudio-explain/$(POD_NAME).toml" in workers["spec"]["template"]["spec"]["containers"][0]["args"]
    files = files_of(manifests)
    for number, endpoint in enumerate(THREE):
        (driven,) = tomllib.loads(files[f"{workers['metadata']['name']}-{number}.toml"])["llm"]["endpoints"]
        assert driven["name"] == endpoint["name"]


def components(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pods by what they do; those of Jobs and tests too."""
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in pods(manifests)}


@pytest.mark.parametrize(("values", "lookers"), [("discovered", set()), ("discovered behind policies", {"validation"})])
def test_only_pods_that_look_at_discovered_servers_get_a_token_and_the_right_to_watch_them(values: str, lookers: set[str]) -> None:
    manifests = rendered(VALUES[values])
    with_token = {name for name, pod in components(manifests).items() if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {"generation", "aggregator", "doctor"} | lookers
    (role,) = of_kind(manifests, "Role")
    assert role["rules"] == [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]
    plain = rendered({})
    assert not of_kind(plain, "Role")
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in pods(plain))


@pytest.mark.parametrize(("values", "lookers"), [("everything", set()), ("discovered behind policies", {"validation"})])
def test_policies_let_every_pod_reach_kafka_and_those_that_look_at_models_reach_them(values: str, lookers: set[str]) -> None:
    manifests = rendered(VALUES[values])
    policies = {each["metadata"]["name"].rpartition("-")[2]: each["spec"] for each in of_kind(manifests, "NetworkPolicy")}
    assert set(policies["nothing"]) == {"podSelector", "policyTypes"}
    for name, pod in components(manifests).items():
        labels = pod["metadata"]["labels"]
        for everybodys in ("nothing", "all"):
            assert policies[everybodys]["podSelector"]["matchLabels"].items() <= labels.items()
            assert policies[everybodys]["policyTypes"] == ["Ingress", "Egress"]
        (expression,) = policies["models"]["podSelector"]["matchExpressions"]
        assert (labels[expression["key"]] in expression["values"]) == (name in {"generation", "aggregator", "doctor"} | lookers)
    ports = {port["port"] for rule in policies["all"]["egress"] for port in rule["ports"]}
    assert {53, 9092, 5432} <= ports


def test_policies_open_the_ports_that_brokers_outside_are_named_with() -> None:
    kafka = {"bootstrapServers": "10.0.0.1:19092,10.0.0.2:19092,10.0.0.3:29092", "outside": ["10.0.0.0/24"]}
    for ports, opened in (([], {19092, 29092}), ([9093], {9093})):
        manifests = rendered({"kafka": {**kafka, "ports": ports}, "networkPolicies": {"enabled": True}})
        (spec,) = [each["spec"] for each in of_kind(manifests, "NetworkPolicy") if each["metadata"]["name"].endswith("-all")]
        (rule,) = [rule for rule in spec["egress"] if {"ipBlock": {"cidr": "10.0.0.0/24"}} in rule["to"]]
        assert {port["port"] for port in rule["ports"]} == opened


def test_secrets_that_settings_name_are_where_they_say(manifests: list[Manifest]) -> None:
    settings = Settings.model_validate(tomllib.loads(files_of(manifests)["mistudio-explain.toml"]))
    named = [
        settings.kafka.sasl_password_file,
        settings.kafka.ssl_cafile,
        settings.kafka.ssl_certfile,
        settings.kafka.ssl_keyfile,
        settings.store.password_file,
    ]
    named += [endpoint.api_key_file for endpoint in settings.llm.endpoints]
    for pod in pods(manifests):
        for container in pod["spec"]["containers"]:
            mounted = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
            assert {str(file.parent) for file in named if file is not None} <= mounted


@pytest.mark.parametrize("name", ["autoscaling", "autoscaling with passwords", "autoscaling with certificates"])
def test_scalers_watch_each_group_with_keys_that_keda_knows(name: str) -> None:
    manifests = rendered(VALUES[name])
    scalers = of_kind(manifests, "ScaledObject")
    assert {trigger["metadata"]["consumerGroup"] for each in scalers for trigger in each["spec"]["triggers"]} == {
        "mistudio-explain.context", "mistudio-explain.generation", "mistudio-explain.validation",
    }  # fmt: skip
    names = {each["metadata"]["name"] for each in manifests if each["kind"] in ("Deployment", "StatefulSet")}
    for each in scalers:
        assert each["spec"]["scaleTargetRef"]["name"] in names
        assert each["spec"]["minReplicaCount"] == 1
        for trigger in each["spec"]["triggers"]:
            assert set(trigger["metadata"]) <= KAFKA_SCALER - {"topic"}
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
    (workers,) = [each for each in scalers if each["metadata"]["name"].endswith("generation")]
    assert workers["spec"]["maxReplicaCount"] == len(VALUES[name].get("endpoints", [None]))


def test_a_scaler_wants_as_many_replicas_as_work_off_the_lag_in_time() -> None:
    values = {
        "autoscaling": {"enabled": True, "generation": {"ratePerSecond": 0.5, "drainSeconds": 900}, "context": {"ratePerSecond": 0.01, "drainSeconds": 1}}
    }
    thresholds = {
        each["metadata"]["name"].rpartition("-")[2]: each["spec"]["triggers"][0]["metadata"]["lagThreshold"]
        for each in of_kind(rendered(values), "ScaledObject")
    }
    assert thresholds == {"generation": "450", "context": "1", "validation": "16200"}


def test_a_scaler_without_secrets_to_read_asks_for_none() -> None:
    manifests = rendered(VALUES["autoscaling with tls of a known authority"])
    assert not of_kind(manifests, "TriggerAuthentication")
    assert all("authenticationRef" not in trigger for each in of_kind(manifests, "ScaledObject") for trigger in each["spec"]["triggers"])


def test_the_schema_of_the_values_knows_every_setting_of_an_endpoint() -> None:
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]["endpoints"]["items"]["properties"]
    assert set(known) == set(EndpointSettings.model_fields)


def test_strimzi_makes_the_topics_that_the_command_makes() -> None:
    made = {each["metadata"]["name"]: each["spec"] for each in of_kind(rendered(VALUES["strimzi"]), "KafkaTopic")}
    assert made == {spec.name: {"partitions": spec.partitions, "config": dict(spec.config)} for spec in topic_specs(Settings())}


def test_nothing_beyond_core_resources_is_made_unless_it_is_asked_for() -> None:
    assert {manifest["apiVersion"] for manifest in rendered({})} <= CORE
    assert not of_kind(rendered({}), "NetworkPolicy")


def test_a_service_monitor_and_the_rules_stand_in_the_cluster_as_in_the_files() -> None:
    manifests = rendered(VALUES["monitoring"])
    (rules,) = of_kind(manifests, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    (dashboard,) = [each for each in of_kind(manifests, "ConfigMap") if "mistudio-explain.json" in each["data"]]
    assert json.loads(dashboard["data"]["mistudio-explain.json"])["title"] == "miStudioExplain"


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"kafak": {}}, "kafak"),
        ({"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
        ({"endpoints": []}, "endpoints"),
        ({"endpoints": [{"name": "x", "provider": "telepathy"}]}, "provider"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
        ({"terminationGracePeriodSeconds": 300}, "terminationGracePeriodSeconds is 300, but a call may take 300 s"),
        ({"config": {"llm": {"deadline_s": 600}}}, "a call may take 600 s"),
        ({"endpoints": [{"name": "x", "provider": "ollama", "adress": "http://x"}]}, "adress"),
        ({"secrets": ["kafka"]}, "secrets"),
        ({"autoscaling": {"generation": {"max": 9}}}, "max"),
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.saslUsername"),
        ({"kafka": {"securityProtocol": "SASL_SSL", "saslUsername": "u"}}, "kafka.passwordSecret.name"),
        ({"strimzi": {"enabled": True}}, "strimzi.cluster"),
    ],
)
def test_wrong_values_are_refused_by_name(values: Mapping[str, Any], what: str) -> None:
    with pytest.raises(HelmError, match=what):
        rendered(values)
