"""How far a prompt travels to an endpoint: judged by its settings alone, before anything is sent."""

import ipaddress
from urllib.parse import urlsplit

from mistudio_explain.events.explanation import Reach
from mistudio_explain.llm.connection import is_loopback
from mistudio_explain.settings import EndpointSettings

_OWN_NAMES = (".local", ".localdomain", ".internal", ".lan", ".home.arpa", ".svc", ".cluster.local")
"""Names that no public server can have (RFC 6762, RFC 8375, and what Kubernetes and routers give)."""


def reach_of(endpoint: EndpointSettings) -> Reach:
    """Where an endpoint is; what its setting `cloud` says comes first.

    Anthropic, and every address that is neither this machine's nor a private one, is a cloud. A name without a dot is
    the network's own.
    """
    if endpoint.cloud:
        return "cloud"
    if endpoint.provider == "anthropic" and endpoint.cloud is None:
        return "cloud"
    if endpoint.url is None or is_loopback(endpoint.url):
        return "machine"
    return "network" if endpoint.cloud is False or _is_private(endpoint.url) else "cloud"


def _is_private(url: str) -> bool:
    host = (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host != "" and ("." not in host or host.endswith(_OWN_NAMES))
