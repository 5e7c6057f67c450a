"""Requests to addresses that settings name, and to nothing else that an address may lead to."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import httpx

from mistudio_explain.errors import BadSettings, ExplainError
from mistudio_explain.llm.failures import retry_after_s

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Collection[str]]]

_TIMEOUT_S = 10.0
WITHIN_S = 30.0
"""All in all: a receiver that answers byte by byte, or a name that nobody answers for, would hold others up."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class NotAccepted(ExplainError):
    """A receiver did not accept a message; `wait_s` is how long it asked to wait, seconds."""

    def __init__(self, said: str, *, repeatable: bool = True, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.repeatable = repeatable
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a message goes: its URL, and the private networks that it may lie in."""

    url: str
    networks: tuple[Network, ...]


def destination(url: str, networks: Collection[str]) -> Destination:
    """Check an address of the settings; raises BadSettings."""
    try:
        parsed = httpx.URL(url)
        allowed = tuple(ipaddress.ip_network(network) for network in networks)
    except (httpx.InvalidURL, ValueError) as error:
        raise BadSettings(f"webhooks: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise BadSettings("webhooks: a receiver's url must be https://host/path (or http:// within webhooks.networks), without a user in it")
    return Destination(url, allowed)


def refusal(address: Address, scheme: str, networks: Collection[Network]) -> str | None:
    """Why nothing may be sent to an address; None when it may.

    An address within another one (mapped, 6to4, Teredo, NAT64) is looked at too: it is where the message would go.
    """
    for each in (address, *_within(address)):
        if any(each in network for network in networks):
            return None
    if any(not each.is_global or each.is_multicast for each in (address, *_within(address))):
        return f"{address} is no public address; webhooks.networks lists those that may be used nevertheless"
    return None if scheme == "https" else f"{address} is a public address, to which nothing goes without TLS"


def _within(address: Address) -> list[Address]:
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    teredo = address.teredo[1] if address.teredo else None
    return [each for each in (address.ipv4_mapped, address.sixtofour, teredo, nat64) if each is not None]


async def resolve(host: str, port: int) -> Collection[str]:
    """The addresses of a host."""
    return [str(found[4][0]) for found in await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def post(to: Destination, body: bytes, headers: Mapping[str, str], context: ssl.SSLContext, *, resolve: Resolve = resolve) -> None:
    """Send a message, and return when it was accepted with a status of 200 to 299. Raises NotAccepted.

    The name is looked up once, every address of it must be allowed, and the connection goes to the one that was looked
    at, so that a name that changes its mind leads nowhere else. No redirect is followed, no proxy used, no answer read.
    """
    host = httpx.URL(to.url).host
    try:
        async with asyncio.timeout(WITHIN_S):
            status, wait_s = await _answered(httpx.URL(to.url), to.networks, body, headers, context, resolve)
    except (httpx.HTTPError, TimeoutError) as error:
        raise NotAccepted(f"{host}: {type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        redirected = ", and redirects are not followed" if 300 <= status < 400 else ""
        raise NotAccepted(f"{host}: it answered {status}{redirected}", repeatable=status != 410, wait_s=wait_s)


async def _answered(
    url: httpx.URL, networks: Collection[Network], body: bytes, headers: Mapping[str, str], context: ssl.SSLContext, resolve: Resolve
) -> tuple[int, float | None]:
    """The status of the answer, and how many seconds it asks to wait."""
    pinned = url.copy_with(host=str(await _address(url, networks, resolve)))
    sent = {**headers, "host": url.netloc.decode(), "content-type": "application/json", "user-agent": "mistudio-explain"}
    async with (
        httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client,
        client.stream("POST", pinned, content=body, headers=sent, extensions={"sni_hostname": url.host}) as answer,
    ):
        return answer.status_code, retry_after_s(answer.headers)


async def _address(url: httpx.URL, networks: Collection[Network], resolve: Resolve) -> Address:
    """Where a host is, once every address of it was looked at."""
    try:
        found = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        addresses = [ipaddress.ip_address(each.partition("%")[0]) for each in found]
    except (OSError, UnicodeError) as error:
        raise NotAccepted(f"{url.host}: the name cannot be looked up ({error})") from error
    if not addresses:
        raise NotAccepted(f"{url.host}: the name has no address")
    for address in addresses:
        if (why := refusal(address, url.scheme, networks)) is not None:
            raise NotAccepted(f"{url.host}: {why}")
    return addresses[0]
