"""Where a request comes from: this machine under its own name, or a page that has no business here."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})


def is_safe(method: str) -> bool:
    """Whether a method only reads."""
    return method in _SAFE


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which nobody else reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def host_of(header: str) -> str:
    """The host in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_from_another_page(headers: Mapping[str, str], allowed: Sequence[str]) -> bool:
    """Whether a browser sends a request on behalf of a page of another origin that is not one of those allowed.

    Browsers say so in Sec-Fetch-Site and in Origin (WHATWG Fetch); programs send neither.
    """
    origin = headers.get("origin")
    if origin is not None and origin in allowed:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN:
        return True
    return origin is not None and origin.partition("://")[2] != headers.get("host")
