"""Values that the chart is rendered with, by Helm's own library, and what tests look for in what comes of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).parent.parent.parent / "charts" / "mistudio-explain"
KUBERNETES = "1.37"
SASL = {"securityProtocol": "SASL_SSL", "saslUsername": "explain", "passwordSecret": {"name": "kafka"}, "caSecret": {"name": "authority"}}
MUTUAL_TLS = {"securityProtocol": "SSL", "clientSecret": {"name": "user"}, "caSecret": {"name": "authority"}}
THREE = [{"name": f"gpu{number}", "provider": "ollama", "url": f"http://gpu{number}:11434"} for number in range(3)]
MONITORING = {"podMonitor": True, "rules": True, "dashboard": True, "labels": {"release": "prometheus"}}
DISCOVERY = {"endpoints": [{"name": "pool", "provider": "ollama", "url": "http://ollama.llm:11434", "discover": "endpointslices"}], "discovery": "llm"}
BUCKET = {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 443}]}
EVERYTHING = {"autoscaling": {"enabled": True}, "monitoring": MONITORING, "networkPolicies": {"enabled": True, "egress": [BUCKET]}}
VALUES: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "microk8s": yaml.safe_load((CHART / "values-microk8s.yaml").read_text()),
    "three endpoints": {"endpoints": THREE},
    "vllm": {
        "endpoints": [{"name": "vllm", "provider": "openai", "url": "https://vllm.example/v1", "api_key_file": "/secrets/llm.keys/vllm"}],
        "secrets": ["llm.keys"],
    },
    "anthropic beside an own one": {"endpoints": [*THREE, {"name": "cloud", "provider": "anthropic"}], "networkPolicies": {"enabled": True}},
    "discovered": DISCOVERY,
    "discovered behind policies": {**DISCOVERY, "networkPolicies": {"enabled": True}, "config": {"judge": {"enabled": True}}},
    "passwords": {"kafka": SASL},
    "passwords without tls": {"kafka": {**SASL, "securityProtocol": "SASL_PLAINTEXT"}},
    "plain passwords": {"kafka": {**SASL, "saslMechanism": "PLAIN"}},
    "client certificates": {"kafka": MUTUAL_TLS},
    "tls of a known authority": {"kafka": {"securityProtocol": "SSL"}},
    "several brokers outside": {"kafka": {"bootstrapServers": "10.0.0.1:9092,10.0.0.2:9092", "outside": ["10.0.0.0/24"]}, "networkPolicies": {"enabled": True}},
    "autoscaling": {"autoscaling": {"enabled": True}, "endpoints": THREE},
    "autoscaling with passwords": {"autoscaling": {"enabled": True}, "kafka": SASL},
    "autoscaling with certificates": {"autoscaling": {"enabled": True}, "kafka": MUTUAL_TLS},
    "autoscaling with tls of a known authority": {"autoscaling": {"enabled": True}, "kafka": {"securityProtocol": "SSL"}},
    "slower and sooner": {"autoscaling": {"enabled": True, "generation": {"ratePerSecond": 0.001, "drainSeconds": 60}}},
    "long calls": {"config": {"llm": {"deadline_s": 900}}, "terminationGracePeriodSeconds": 930},
    "strimzi": {"strimzi": {"enabled": True, "cluster": "kafka"}, "kafka": SASL},
    "strimzi with certificates elsewhere": {"strimzi": {"enabled": True, "cluster": "kafka", "clusterNamespace": "kafka"}, "kafka": MUTUAL_TLS},
    "monitoring": {"monitoring": MONITORING},
    "policies": {"networkPolicies": {"enabled": True, "models": [{"podSelector": {"matchLabels": {"app": "ollama"}}}]}},
    "everything": EVERYTHING,
    "settings": {"config": {"quality": {"explain_poor": True}, "limits": {"quiet_s": 60}, "log_level": "debug"}},
    "a registry of its own": {"image": {"repository": "registry.example/explain", "tag": "1.2.3", "pullPolicy": "Always"}, "imagePullSecrets": [{"name": "r"}]},
    "nodes": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
    "no extras": {"topics": {"create": False}, "podDisruptionBudgets": {"enabled": False}},
    "volumes": {"reports": {"size": "1Ti", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}, "services": {"validation": {"replicas": 4}}},
}
CORE = {"v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}

Manifest = dict[str, Any]


def rendered(values: Mapping[str, Any], name: str = "explain", *, namespace: str = "default") -> list[Manifest]:
    """The objects of a release."""
    with Chart.load(CHART) as chart:
        files = chart.render(values=dict(values), name=name, namespace=namespace)
    return [manifest for file, text in files.items() if not file.endswith(".txt") for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The pods that come of the manifests."""
    return [*(each["spec"]["template"] for each in manifests if "template" in each.get("spec", {})), *of_kind(manifests, "Pod")]


def files_of(manifests: Sequence[Manifest]) -> Mapping[str, str]:
    return next(each["data"] for each in of_kind(manifests, "ConfigMap") if "mistudio-explain.toml" in each["data"])
