"""The chart, rendered by Helm itself over many values: what Kubernetes' own schemas say of it, and what our services say of their settings."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmError
from helm_python.chart import lint

from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "mistudio-explain"
KUBERNETES = "1.37"
SASL = {"securityProtocol": "SASL_SSL", "saslUsername": "explain", "passwordSecret": {"name": "kafka"}, "caSecret": {"name": "authority"}}
MUTUAL_TLS = {"securityProtocol": "SSL", "clientSecret": {"name": "user"}, "caSecret": {"name": "authority"}}
THREE = [{"name": f"gpu{number}", "provider": "ollama", "url": f"http://gpu{number}:11434"} for number in range(3)]
EVERYTHING = {
    "autoscaling": {"enabled": True},
    "monitoring": {"podMonitor": True, "rules": True, "dashboard": True, "labels": {"release": "prometheus"}},
    "networkPolicies": {"enabled": True},
}
VALUES: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "microk8s": yaml.safe_load((CHART / "values-microk8s.yaml").read_text()),
    "three endpoints": {"endpoints": THREE},
    "vllm": {"endpoints": [{"name": "vllm", "provider": "openai", "url": "https://vllm.example/v1", "api_key_env": "KEY"}]},
    "anthropic beside an own one": {"endpoints": [*THREE, {"name": "cloud", "provider": "anthropic"}], "networkPolicies": {"enabled": True}},
    "discovered": {"endpoints": [{"name": "pool", "provider": "ollama", "url": "http://ollama:11434", "discover": "endpointslices"}], "discovery": "llm"},
    "passwords": {"kafka": SASL},
    "passwords without tls": {"kafka": {**SASL, "securityProtocol": "SASL_PLAINTEXT"}},
    "plain passwords": {"kafka": {**SASL, "saslMechanism": "PLAIN"}},
    "client certificates": {"kafka": MUTUAL_TLS},
    "tls of a known authority": {"kafka": {"securityProtocol": "SSL"}},
    "several brokers outside": {"kafka": {"bootstrapServers": "10.0.0.1:9092,10.0.0.2:9092", "outside": ["10.0.0.0/24"]}, "networkPolicies": {"enabled": True}},
    "autoscaling": {"autoscaling": {"enabled": True}, "endpoints": THREE},
    "autoscaling with passwords": {"autoscaling": {"enabled": True}, "kafka": SASL},
    "autoscaling with certificates": {"autoscaling": {"enabled": True}, "kafka": MUTUAL_TLS},
    "strimzi": {"strimzi": {"enabled": True, "cluster": "kafka"}, "kafka": SASL},
    "strimzi with certificates elsewhere": {"strimzi": {"enabled": True, "cluster": "kafka", "clusterNamespace": "kafka"}, "kafka": MUTUAL_TLS},
    "monitoring": {"monitoring": EVERYTHING["monitoring"]},
    "policies": {"networkPolicies": {"enabled": True, "models": [{"podSelector": {"matchLabels": {"app": "ollama"}}}]}},
    "everything": EVERYTHING,
    "settings": {"config": {"quality": {"explain_poor": True}, "limits": {"quiet_s": 60}, "log_level": "debug"}},
    "a registry of its own": {"image": {"repository": "registry.example/explain", "tag": "1.2.3", "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "r"}]},
    "nodes": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
    "no extras": {"topics": {"create": False}, "podDisruptionBudgets": {"enabled": False}},
    "volumes": {"reports": {"size": "1Ti", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}, "services": {"validation": {"replicas": 4}}},
}
CORE = {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
# KEDA accepts any key in a trigger's metadata, so that a wrong one would go unnoticed: those of its Kafka scaler (keda.sh, "Apache Kafka")
KAFKA_SCALER = {
    "bootstrapServers", "consumerGroup", "topic", "lagThreshold", "activationLagThreshold", "offsetResetPolicy", "allowIdleConsumers",
    "scaleToZeroOnInvalidOffset",
    "version", "partitionLimitation", "excludePersistentLag", "limitToPartitionsWithLag", "ensureEvenDistributionOfPartitions", "tls", "sasl", "username",
}  # fmt: skip

Manifest = dict[str, Any]


def rendered(values: Mapping[str, Any], name: str = "explain") -> list[Manifest]:
    with Chart.load(CHART) as chart:
        files = chart.render(values=dict(values), name=name)
    return [manifest for file, text in files.items() if not file.endswith(".txt") for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The pods that come of the manifests."""
    return [*(each["spec"]["template"] for each in manifests if "template" in each.get("spec", {})), *of_kind(manifests, "Pod")]


def files_of(manifests: Sequence[Manifest]) -> Mapping[str, str]:
    return next(each["data"] for each in of_kind(manifests, "ConfigMap") if "mistudio-explain.toml" in each["data"])


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
    grace = Settings.model_validate(tomllib.loads(files_of(manifests)["mistudio-explain.toml"])).limits.grace_s
    longest = Settings().llm.deadline_s
    assert all(pod["spec"]["terminationGracePeriodSeconds"] > grace >= longest for pod in pods(manifests))


def test_there_is_one_generation_worker_for_each_endpoint_which_drives_it_alone() -> None:
    manifests = rendered({"endpoints": THREE}, name="mistudio-explain")
    (workers,) = of_kind(manifests, "StatefulSet")
    assert workers["spec"]["replicas"] == 3
    assert "/etc/mistudio-explain/$(POD_NAME).toml" in workers["spec"]["template"]["spec"]["containers"][0]["args"]
    files = files_of(manifests)
    for number, endpoint in enumerate(THREE):
        (driven,) = tomllib.loads(files[f"{workers['metadata']['name']}-{number}.toml"])["llm"]["endpoints"]
        assert driven["name"] == endpoint["name"]


def test_only_a_worker_that_discovers_endpoints_gets_a_token_and_the_right_to_list_them() -> None:
    manifests = rendered(VALUES["discovered"])
    with_token = [pod for pod in pods(manifests) if pod["spec"]["automountServiceAccountToken"]]
    assert [pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in with_token] == ["generation"]
    (role,) = of_kind(manifests, "Role")
    assert role["rules"] == [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}]
    plain = rendered({})
    assert not of_kind(plain, "Role")
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in pods(plain))


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
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.saslUsername"),
        ({"kafka": {"securityProtocol": "SASL_SSL", "saslUsername": "u"}}, "kafka.passwordSecret.name"),
        ({"strimzi": {"enabled": True}}, "strimzi.cluster"),
    ],
)
def test_wrong_values_are_refused_by_name(values: Mapping[str, Any], what: str) -> None:
    with pytest.raises(HelmError, match=what):
        rendered(values)
