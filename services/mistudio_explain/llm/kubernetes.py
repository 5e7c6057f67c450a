"""The servers of a Kubernetes service, as its EndpointSlices list them, read with the rights of our own service account.

The account needs `list` on `endpointslices` (group discovery.k8s.io) in the service's namespace.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from mistudio_explain.errors import BadSettings
from mistudio_explain.llm.discovery import LookupFailed, of_one_family

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SET_IN_PODS = "KUBERNETES_SERVICE_HOST"
_TIMEOUT_S = 5.0
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's API server, and the folder with `token`, `ca.crt` and `namespace` of the account that asks."""

    url: str
    account: Path = SERVICE_ACCOUNT

    @classmethod
    def around_us(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The cluster in which this process is a pod. Raises BadSettings where it is none."""
        host = environ.get(_SET_IN_PODS)
        if host is None:
            raise BadSettings(f'discover = "endpointslices" works in a Kubernetes cluster only ({_SET_IN_PODS} is not set); use "dns", or name each server')
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{environ.get('KUBERNETES_SERVICE_PORT', '443')}")

    def read(self, name: str) -> str:
        """A file of the account, read anew each time: tokens are replaced while we run. Raises LookupFailed."""
        try:
            return (self.account / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LookupFailed(f"{self.account / name}: the service account's file cannot be read ({error}); does the pod mount it?") from error


def is_in_cluster(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in a Kubernetes cluster."""
    return _SET_IN_PODS in environ


async def ready_servers(cluster: Cluster, url: str) -> list[tuple[str, int | None]]:
    """Address and port of each ready server of the service that a url names as service[.namespace[...]].

    The port is the slices' only one, else the one that has the url's number. Raises LookupFailed.
    """
    parts = urlsplit(url)
    service, namespace = _named(parts.hostname or "", cluster)
    slices = await _listed(cluster, service, namespace)
    ports: dict[str, int | None] = {}
    for each in slices:
        port = _port(each, parts.port, f"{service} in {namespace}")
        for endpoint in each.get("endpoints") or ():
            # conditions.ready may be absent: Kubernetes says to take that for ready
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                ports.update(dict.fromkeys(endpoint["addresses"][:1], port))  # all of a slice's addresses are one server's; the first is enough
    return [(address, ports[address]) for address in of_one_family(ports)]


def _named(host: str, cluster: Cluster) -> tuple[str, str]:
    service, _, rest = host.partition(".")
    return service, rest.partition(".")[0] or cluster.read("namespace")


def _port(of_slice: Mapping[str, Any], wanted: int | None, service: str) -> int | None:
    numbers: list[int | None] = [port.get("port") for port in of_slice.get("ports") or ()]
    if len(numbers) == 1:
        return numbers[0]
    if wanted in numbers:
        return wanted
    raise LookupFailed(f"the service {service} has the ports {', '.join(map(str, numbers)) or 'none'}; name one of them in the endpoint's url")


async def _listed(cluster: Cluster, service: str, namespace: str) -> list[dict[str, Any]]:
    path = f"{cluster.url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    query = {"labelSelector": f"kubernetes.io/service-name={service}", "limit": str(_PAGE)}
    found: list[dict[str, Any]] = []
    headers = {"authorization": f"Bearer {cluster.read('token')}"}
    try:
        async with httpx.AsyncClient(headers=headers, verify=_trusting(cluster), timeout=_TIMEOUT_S, trust_env=False) as client:
            while True:
                answer = await client.get(path, params=query)
                if answer.is_error:
                    raise LookupFailed(_refused(answer, service, namespace))
                page = answer.json()
                found += [each for each in page["items"] if each["addressType"] in ("IPv4", "IPv6")]
                if not (following := (page.get("metadata") or {}).get("continue")):
                    return found
                query["continue"] = following
    except httpx.HTTPError as error:
        raise LookupFailed(f"the API server of Kubernetes at {cluster.url} does not answer: {type(error).__name__}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LookupFailed(f"the API server of Kubernetes at {cluster.url} answers something else than EndpointSlices ({error!r})") from error


def _trusting(cluster: Cluster) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(cluster.account / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise LookupFailed(f"{cluster.account / 'ca.crt'}: the cluster's certificate cannot be read ({error})") from error


def _refused(answer: httpx.Response, service: str, namespace: str) -> str:
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.text[:200]
    return (
        f"Kubernetes does not tell the EndpointSlices of {service} in {namespace}: HTTP {answer.status_code}: {said}; "
        "the service account needs `list` on endpointslices of discovery.k8s.io there"
    )
