"""Discovery on a real API server, with the chart's own rights: servers join and leave with the Ready condition of their pods."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from kube.cluster import KubeCluster
from kube.namespaces import made
from mistudio_explain.llm import fleet as fleet_module
from mistudio_explain.llm.endpoint_slices import Watch
from mistudio_explain.llm.fleet import Alone, Fleet, driven
from mistudio_explain.llm.kubernetes import Cluster
from mistudio_explain.llm.opening import configured
from mistudio_explain.settings import EndpointSettings, LlmSettings
from shipping.rendering import DISCOVERY, of_kind, rendered
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply

PORT = 11434
SLICES_S = 30.0  # the EndpointSlice controller answers a change in a tenth of a second on an idle machine
SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@dataclass
class Ollamas:
    """The service `ollama` in a namespace, and its pods, which nobody runs: what a kubelet would say of them, the test says."""

    cluster: KubeCluster
    namespace: str
    pods: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ports = [{"name": "http", "port": PORT}]
        spec = {"clusterIP": "None", "selector": {"app": "ollama"}, "ports": ports}
        self.cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})
        self.cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ollama"}, "spec": spec}, self.namespace)
        self.cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ollama"}}, self.namespace)

    @property
    def url(self) -> str:
        return f"http://ollama.{self.namespace}.svc:{PORT}"

    def start(self, address: str) -> None:
        container = {"name": "ollama", "image": "ollama", "ports": [{"name": "http", "containerPort": PORT}], "securityContext": CONTAINER}
        spec = {"nodeName": "node", "serviceAccountName": "ollama", "securityContext": SECURITY, "containers": [container]}
        about = {"name": self._name(address), "labels": {"app": "ollama"}}
        self.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}, self.namespace)
        self.set_ready(address, ready=True)

    def set_ready(self, address: str, *, ready: bool) -> None:
        condition = {"type": "Ready", "status": f"{ready}"}
        self.cluster.set_status(
            self._pod(address), self.namespace, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
        )

    def end(self, address: str) -> None:
        self.cluster.delete(self._pod(address), self.namespace)

    def _pod(self, address: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self._name(address)}}

    def _name(self, address: str) -> str:
        return f"ollama-{address.replace('.', '-')}"


@pytest.fixture
def ollamas(cluster: KubeCluster) -> Ollamas:
    return Ollamas(cluster, made(cluster, f"llm-{secrets.token_hex(4)}"))


@dataclass(frozen=True, slots=True)
class Account:
    """The chart's service account, as a pod of it sees it."""

    token: str
    inside: Cluster


@pytest.fixture
def account(cluster: KubeCluster, namespace: str, ollamas: Ollamas, tmp_path: Path) -> Account:
    manifests = rendered({**DISCOVERY, "discovery": ollamas.namespace}, namespace=namespace)
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        for each in of_kind(manifests, kind):
            cluster.apply(each, namespace)
    token = cluster.token_of(of_kind(manifests, "ServiceAccount")[0]["metadata"]["name"], namespace)
    for name, content in (("token", token), ("namespace", namespace), ("ca.crt", cluster.ca_file.read_text())):
        (tmp_path / name).write_text(content)
    return Account(token, Cluster(cluster.url, tmp_path))


ALLOWED = {("list", "endpointslices"), ("watch", "endpointslices")}
ASKED = [
    (verb, resource)
    for verb in ("get", "list", "watch", "create", "update", "patch", "delete")
    for resource in ("endpointslices", "endpoints", "secrets", "pods", "configmaps")
]


def test_the_role_allows_to_list_and_watch_endpointslices_there_and_nothing_else(
    cluster: KubeCluster, namespace: str, ollamas: Ollamas, account: Account
) -> None:
    def may(verb: str, resource: str, where: str) -> bool:
        group = "discovery.k8s.io" if resource == "endpointslices" else ""
        about = {"namespace": where, "verb": verb, "group": group, "resource": resource}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": about}}
        return bool(cluster.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, account.token)["status"]["allowed"])

    assert {(verb, resource) for verb, resource in ASKED if may(verb, resource, ollamas.namespace)} == ALLOWED
    for elsewhere in (namespace, "kube-system", ""):
        assert not any(may(verb, resource, elsewhere) for verb, resource in ASKED)


def test_the_api_server_itself_answers_the_account_so(cluster: KubeCluster, namespace: str, ollamas: Ollamas, account: Account) -> None:
    with cluster.client_of(account.token) as client:
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{ollamas.namespace}/endpointslices"
        assert client.get(slices).status_code == httpx.codes.OK
        assert client.get(slices, params={"watch": "true", "timeoutSeconds": "1"}).status_code == httpx.codes.OK
        for path in (
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            "/apis/discovery.k8s.io/v1/endpointslices",
            f"/api/v1/namespaces/{ollamas.namespace}/pods",
            f"/api/v1/namespaces/{namespace}/secrets",
            "/api/v1/nodes",
        ):
            assert client.get(path).status_code == httpx.codes.FORBIDDEN, path


def test_an_account_without_the_role_is_told_what_it_lacks(cluster: KubeCluster, namespace: str, ollamas: Ollamas, account: Account) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}, namespace)
    (account.inside.account / "token").write_text(cluster.token_of("nobody", namespace))
    with pytest.raises(Exception, match=r"HTTP 403: endpointslices.discovery.k8s.io is forbidden.*needs `list` and `watch`"):
        asyncio.run(Watch(account.inside, ollamas.url, lambda: None).ready())


@pytest.fixture
async def fleet(ollamas: Ollamas, account: Account, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """The product's fleet on the product's watch; only the pods' addresses, which nobody has, lead to a server on loopback."""

    async def with_a_model(reply: Reply) -> None:
        await reply.whole(200, OllamaWire().models("m"))

    async with FakeLlm(with_a_model) as server:

        async def opened(settings: EndpointSettings, context_tokens: int) -> Any:
            return await configured(settings.model_copy(update={"url": server.url}), context_tokens)

        monkeypatch.setattr(fleet_module, "configured", opened)
        monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 3600.0)  # what joins or leaves does so because the watch told of it
        monkeypatch.setattr(Cluster, "around_us", classmethod(lambda _: account.inside))
        pool = EndpointSettings(name="ollama", provider="ollama", url=ollamas.url, discover="endpointslices", slots=2)
        async with driven(LlmSettings(endpoints=(pool,)), Alone(), rng=random.Random(1), waits=True) as fleet:
            yield fleet


async def until_driven(fleet: Fleet, *addresses: str) -> None:
    wanted = [f"ollama@{address}" for address in addresses]
    async with asyncio.timeout(SLICES_S):
        while sorted(endpoint.name for endpoint in fleet.endpoints.all) != wanted:
            await asyncio.sleep(0.02)


async def in_thread(call: Callable[..., None], *arguments: Any, **options: Any) -> None:
    await asyncio.to_thread(call, *arguments, **options)


async def test_a_server_is_called_while_its_pod_is_ready(fleet: Fleet, ollamas: Ollamas) -> None:
    assert not fleet.endpoints.all
    await in_thread(ollamas.start, "10.9.0.1")
    await until_driven(fleet, "10.9.0.1")
    await in_thread(ollamas.start, "10.9.0.2")
    await until_driven(fleet, "10.9.0.1", "10.9.0.2")
    await in_thread(ollamas.set_ready, "10.9.0.1", ready=False)
    await until_driven(fleet, "10.9.0.2")
    await in_thread(ollamas.set_ready, "10.9.0.1", ready=True)
    await until_driven(fleet, "10.9.0.1", "10.9.0.2")
    for address in ("10.9.0.1", "10.9.0.2"):
        await in_thread(ollamas.end, address)
    await until_driven(fleet)


async def test_while_the_api_server_is_away_servers_stay_and_afterwards_changes_are_followed_again(
    cluster: KubeCluster, fleet: Fleet, ollamas: Ollamas
) -> None:
    await in_thread(ollamas.start, "10.9.0.1")
    await until_driven(fleet, "10.9.0.1")
    await in_thread(cluster.stop)
    await fleet.look()
    await until_driven(fleet, "10.9.0.1")
    await in_thread(cluster.start)
    await in_thread(ollamas.start, "10.9.0.2")
    async with asyncio.timeout(120):  # the watch waits for up to half a minute between its tries, and so does the controller
        while len(fleet.endpoints.all) != 2:
            await asyncio.sleep(0.05)
