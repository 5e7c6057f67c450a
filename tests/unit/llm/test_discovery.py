"""Which servers are found behind one address, by DNS and in Kubernetes."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from integration.local_tls import self_signed
from mistudio_explain.errors import BadSettings
from mistudio_explain.llm import kubernetes
from mistudio_explain.llm.discovery import LookupFailed, Server, addresses, servers
from mistudio_explain.llm.kubernetes import Cluster, ready_servers
from mistudio_explain.settings import EndpointSettings
from unit.llm.fake_kubernetes import SERVICE_URL, ApiServer, endpoint, slice_of

BY_DNS = EndpointSettings(name="ollama", provider="ollama", url="http://ollama.mistudio-services.svc:11434", discover="dns")


def resolving_to(*found: str, error: int | None = None) -> Callable[..., list[tuple[Any, ...]]]:
    def getaddrinfo(host: str, port: object, *_: object, **__: object) -> list[tuple[Any, ...]]:
        if error is not None:
            raise socket.gaierror(error, "as the test wants it")
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found]

    return getaddrinfo


async def test_each_address_of_a_headless_name_is_a_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("10.0.0.12", "10.0.0.3", "10.0.0.12"))
    assert await servers(BY_DNS) == [
        Server("ollama@10.0.0.12", "http://10.0.0.12:11434"),
        Server("ollama@10.0.0.3", "http://10.0.0.3:11434"),
    ]


async def test_a_server_with_addresses_of_both_families_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("fd00::5", "10.0.0.5"))
    assert await servers(BY_DNS) == [Server("ollama@10.0.0.5", "http://10.0.0.5:11434")]


async def test_servers_with_ipv6_addresses_alone_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("fd00::5"))
    assert await servers(BY_DNS) == [Server("ollama@fd00::5", "http://[fd00::5]:11434")]


async def test_the_path_of_an_openai_address_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("10.0.0.5"))
    (server,) = await servers(EndpointSettings(name="vllm", provider="openai", url="http://vllm.models:8000/v1", discover="dns"))
    assert server.url == "http://10.0.0.5:8000/v1"


async def test_a_name_that_does_not_exist_has_no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (socket.EAI_NONAME, socket.EAI_NODATA):
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(error=error))
        assert await addresses("ollama.mistudio-services.svc") == []


async def test_a_dns_server_that_is_away_says_nothing_about_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to(error=socket.EAI_AGAIN))
    with pytest.raises(LookupFailed, match=r"ollama\.mistudio-services\.svc cannot be looked up"):
        await servers(BY_DNS)


async def test_the_real_resolver_finds_this_machine() -> None:
    assert await addresses("localhost") == ["127.0.0.1"]
    assert await addresses("no-such-name.invalid") == []


async def test_without_discover_an_endpoint_is_the_server_at_its_url() -> None:
    assert await servers(EndpointSettings(name="gpu0", provider="ollama", url="https://gpu0:11434")) == [Server("gpu0", "https://gpu0:11434")]


@pytest.mark.parametrize("url", [None, "https://ollama:11434"])
def test_discovery_without_an_address_or_by_tls_is_a_wrong_setting(url: str | None) -> None:
    with pytest.raises(ValidationError, match="discover needs a url that begins with http://"):
        EndpointSettings(name="x", provider="ollama", url=url, discover="dns")


async def test_the_ready_endpoints_of_all_slices_are_servers_and_flip_with_their_conditions(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False)), slice_of(endpoint("10.0.0.3", ready=None))]
    assert await ready_servers(cluster, SERVICE_URL) == [("10.0.0.1", 11434), ("10.0.0.3", 11434)]
    server.slices[0] = slice_of(endpoint("10.0.0.1", ready=False), endpoint("10.0.0.2"))
    assert await ready_servers(cluster, SERVICE_URL) == [("10.0.0.2", 11434), ("10.0.0.3", 11434)]
    server.slices = []
    assert await ready_servers(cluster, SERVICE_URL) == []


async def test_a_service_without_pods_whose_slice_has_no_ports_has_no_servers(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices = [{**slice_of(), "ports": None, "endpoints": None}]
    assert await ready_servers(cluster, SERVICE_URL) == []


async def test_a_dual_stack_service_lists_each_server_once(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("fd00::1"), kind="IPv6"), slice_of(endpoint("10.0.0.1")), slice_of(endpoint("x.example"), kind="FQDN")]
    assert await ready_servers(cluster, SERVICE_URL) == [("10.0.0.1", 11434)]


async def test_the_pods_port_is_taken_where_the_service_has_another(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("10.0.0.1"), ports=(11434,))]
    assert await ready_servers(cluster, "http://ollama.mistudio-services:80") == [("10.0.0.1", 11434)]
    server.slices = [slice_of(endpoint("10.0.0.1"), ports=(9090, 11434))]
    assert await ready_servers(cluster, SERVICE_URL) == [("10.0.0.1", 11434)]
    with pytest.raises(LookupFailed, match="has the ports 9090, 11434; name one of them"):
        await ready_servers(cluster, "http://ollama.mistudio-services:80")


async def test_the_namespace_is_our_own_where_the_url_names_none(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices = [slice_of(endpoint("10.0.0.1"))]
    assert await ready_servers(cluster, "http://ollama:11434") == [("10.0.0.1", 11434)]


async def test_a_token_that_was_replaced_is_read_anew(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.slices, server.token = [slice_of(endpoint("10.0.0.1"))], "second"
    with pytest.raises(LookupFailed, match="HTTP 401"):
        await ready_servers(cluster, SERVICE_URL)
    (cluster.account / "token").write_text("second")
    assert await ready_servers(cluster, SERVICE_URL) == [("10.0.0.1", 11434)]


async def test_a_missing_right_is_said_with_what_the_account_needs(api: tuple[ApiServer, Cluster]) -> None:
    server, cluster = api
    server.status = 403
    with pytest.raises(LookupFailed, match=r"HTTP 403: endpointslices\.discovery\.k8s\.io is forbidden.*needs `list` and `watch` on endpointslices"):
        await ready_servers(cluster, SERVICE_URL)


async def test_an_api_server_of_another_authority_is_not_trusted(api: tuple[ApiServer, Cluster], tmp_path_factory: pytest.TempPathFactory) -> None:
    _, cluster = api
    other = tmp_path_factory.mktemp("other")
    self_signed(other)
    (other / "token").write_text("first")
    with pytest.raises(LookupFailed, match=r"does not answer: ConnectError: .*certificate verify failed"):
        await ready_servers(Cluster(cluster.url, other), SERVICE_URL)
    assert api[0].server.requests == []


@pytest.mark.parametrize("lacking", ["token", "ca.crt"])
async def test_a_pod_without_its_accounts_files_says_which(api: tuple[ApiServer, Cluster], lacking: str) -> None:
    _, cluster = api
    (cluster.account / lacking).unlink()
    with pytest.raises(LookupFailed, match=lacking):
        await ready_servers(cluster, SERVICE_URL)


async def test_endpointslices_outside_a_cluster_are_a_wrong_setting() -> None:
    with pytest.raises(BadSettings, match="in a Kubernetes cluster only"):
        Cluster.around_us({})
    assert Cluster.around_us({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}).url == "https://[fd00::1]:6443"
    assert kubernetes.is_in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
