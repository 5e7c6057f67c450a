"""Where the LLM servers behind one address are: by DNS, or as Kubernetes lists them."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mistudio_explain.errors import Unreachable
from mistudio_explain.settings import EndpointSettings

Resolve = Callable[[str], Awaitable[list[str]]]

_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """One LLM server: its name in reports and metrics, and its base address."""

    name: str
    url: str


class LookupFailed(Unreachable):
    """Nobody can say now which servers there are; those known before may well be there still."""


async def servers(settings: EndpointSettings, *, resolve: Resolve | None = None) -> list[Server]:
    """The servers of an endpoint of the settings now, in the order of their names; without `discover` the one at its url.

    A name that does not exist, and a service none of whose servers is ready, have none. Raises LookupFailed.
    """
    url = settings.url or ""
    if settings.discover is None:
        return [Server(settings.name, url)]
    if settings.discover == "endpointslices":
        from mistudio_explain.llm.kubernetes import Cluster, ready_servers

        places = await ready_servers(Cluster.around_us(), url)
    else:
        port = urlsplit(url).port
        places = [(address, port) for address in await (resolve or addresses)(urlsplit(url).hostname or "")]
    return servers_at(places, settings)


def servers_at(places: Iterable[tuple[str, int | None]], settings: EndpointSettings) -> list[Server]:
    """The servers of a discovery that are at these addresses and ports, in the order of their names."""
    return sorted(Server(f"{settings.name}@{address}", _at(settings.url or "", address, port)) for address, port in places)


async def addresses(host: str) -> list[str]:
    """The addresses of a name; none when it does not exist.

    A server with addresses of both families has two of them and must not be taken for two servers: those of IPv4 where
    there are any, else those of IPv6. Raises LookupFailed.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _UNKNOWN_NAME:
            return []
        raise LookupFailed(f"{host} cannot be looked up: {error.strerror}; see to the DNS server") from error
    return of_one_family(str(address[0]) for *_, address in found)


def of_one_family(found: Iterable[str]) -> list[str]:
    """The IPv4 addresses, each once and sorted; where there is none the IPv6 ones."""
    parsed = {ipaddress.ip_address(address) for address in found}
    version = min((address.version for address in parsed), default=4)
    return [str(address) for address in sorted((address for address in parsed if address.version == version), key=int)]


def _at(url: str, address: str, port: int | None) -> str:
    """The url with an address in place of its host."""
    host = f"[{address}]" if ":" in address else address
    return urlsplit(url)._replace(netloc=host if port is None else f"{host}:{port}").geturl()
