"""How connections to LLM servers are opened."""

import ipaddress
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 5.0
KEPT_ALIVE = 0
"""Connections kept for the next call: none. llama.cpp's server closes idle ones under the client's hands (3 of 24
calls failed with "disconnected without sending a response"); opening one costs nothing beside a call of seconds."""


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine, where no proxy of the environment must be asked."""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
