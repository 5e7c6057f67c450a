"""The servers of a Kubernetes service, as its EndpointSlices list them, read with the rights of our own service account.

The account needs `list` and `watch` on `endpointslices` (group discovery.k8s.io) in the service's namespace; how they are
watched, endpoint_slices.py says.
"""

import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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

Slice = Mapping[str, Any]
"""An EndpointSlice, as JSON."""


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


@dataclass(frozen=True, slots=True)
class Service:
    """What a url names as service[.namespace[...]], the port in it, and the cluster where it is."""

    cluster: Cluster
    name: str
    namespace: str
    port: int | None

    @classmethod
    def named_by(cls, url: str, cluster: Cluster) -> Self:
        """The service of a url; without a namespace in it, one of our own. Raises LookupFailed."""
        parts = urlsplit(url)
        name, _, rest = (parts.hostname or "").partition(".")
        return cls(cluster, name, rest.partition(".")[0] or cluster.read("namespace"), parts.port)

    @property
    def slices_url(self) -> str:
        """Where the API server tells of EndpointSlices; the service's are those with `selector`."""
        return f"{self.cluster.url}/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"

    @property
    def selector(self) -> str:
        """Tells the service's slices from others of its namespace."""
        return f"kubernetes.io/service-name={self.name}"

    def asking(self, timeout: httpx.Timeout) -> httpx.AsyncClient:
        """A client of the API server that shows the account's token as it is now. Raises LookupFailed."""
        headers = {"authorization": f"Bearer {self.cluster.read('token')}"}
        return httpx.AsyncClient(headers=headers, verify=_trusting(self.cluster), timeout=timeout, trust_env=False)

    def refused(self, answer: httpx.Response) -> LookupFailed:
        """What an answer comes to that is an error; its body must have been read."""
        try:
            said = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            said = answer.text[:200]
        return LookupFailed(
            f"Kubernetes does not tell the EndpointSlices of {self.name} in {self.namespace}: HTTP {answer.status_code}: {said}; "
            "the service account needs `list` and `watch` on endpointslices of discovery.k8s.io there"
        )

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Raise whatever goes wrong with a question as LookupFailed."""
        try:
            yield
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise LookupFailed(f"the API server of Kubernetes at {self.cluster.url} does not answer: {type(error).__name__}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LookupFailed(f"the API server of Kubernetes at {self.cluster.url} answers something else than EndpointSlices ({error!r})") from error


async def ready_servers(cluster: Cluster, url: str) -> list[tuple[str, int | None]]:
    """Address and port of each ready server, now, of the service that a url names as service[.namespace[...]]. Raises LookupFailed."""
    service = Service.named_by(url, cluster)
    slices, _ = await listed(service)
    return servers_in(slices, service)


def servers_in(slices: Iterable[Slice], service: Service) -> list[tuple[str, int | None]]:
    """Address and port of each ready server in a service's slices.

    The port is the slices' only one, else the one that has the number in the service's url. Raises LookupFailed.
    """
    ports: dict[str, int | None] = {}
    for each in slices:
        # conditions.ready may be absent: Kubernetes says to take that for ready
        ready = [endpoint for endpoint in each.get("endpoints") or () if (endpoint.get("conditions") or {}).get("ready") is not False]
        if ready and each["addressType"] in ("IPv4", "IPv6"):  # the slice of a service without pods has no ports either
            # all of an endpoint's addresses are one server's; the first is enough
            ports.update((endpoint["addresses"][0], _port(each, service)) for endpoint in ready)
    return [(address, ports[address]) for address in of_one_family(ports)]


def _port(of_slice: Slice, service: Service) -> int | None:
    numbers: list[int | None] = [port.get("port") for port in of_slice.get("ports") or ()]
    if len(numbers) == 1:
        return numbers[0]
    if service.port in numbers:
        return service.port
    has = ", ".join(map(str, numbers)) or "none"
    raise LookupFailed(f"the service {service.name} in {service.namespace} has the ports {has}; name one of them in the endpoint's url")


async def listed(service: Service) -> tuple[list[Slice], str]:
    """The slices of a service, and the version of the list, from which a watch can go on. Raises LookupFailed."""
    query = {"labelSelector": service.selector, "limit": str(_PAGE)}
    found: list[Slice] = []
    with service.asked():
        async with service.asking(httpx.Timeout(_TIMEOUT_S)) as client:
            while True:
                answer = await client.get(service.slices_url, params=query)
                if answer.is_error:
                    raise service.refused(answer)
                page = answer.json()
                found += page["items"]
                about = page["metadata"]
                if not (following := about.get("continue")):
                    return found, about["resourceVersion"]
                query["continue"] = following


def _trusting(cluster: Cluster) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(cluster.account / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise LookupFailed(f"{cluster.account / 'ca.crt'}: the cluster's certificate cannot be read ({error})") from error
