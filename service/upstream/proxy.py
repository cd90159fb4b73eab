"""The proxy for a URL, decided from the usual environment variables. Pure."""

import base64
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}


class UnusableProxy(Exception):
    """The environment names an invalid proxy. The text names the variable and never shows its value."""


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """A proxy and the credentials for it."""

    scheme: Literal["http", "https"]
    """As it is written in the variable."""
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of the header Proxy-Authorization; None without credentials."""


def proxy_for(url: str, environment: Mapping[str, str]) -> ProxyAddress | None:
    """Return the proxy for an absolute http or https URL; None if it is to be asked directly.

    It also applies to an address of this machine, as in curl and Python's libraries.

    Raises:
        UnusableProxy: the proxy is not an HTTP proxy, or its address is malformed.
    """
    target = urlsplit(url)
    host = target.hostname or ""
    port = target.port or _PORTS[target.scheme]
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    exceptions = {"no": _variable("no_proxy", environment)}
    # no_proxy may name the host alone or with its port.
    if any(urllib.request.proxy_bypass_environment(name, exceptions) for name in (host, authority)):  # type: ignore[attr-defined]  # typeshed leaves it out
        return None
    name = f"{target.scheme}_proxy"
    address = _variable(name, environment)
    return _parse(address, name) if address else None


def _variable(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _parse(address: str, variable: str) -> ProxyAddress:
    unusable = UnusableProxy(f"{variable}: Should be http://host:port; SOCKS proxies are not supported")
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port or 80
    except ValueError:
        raise unusable from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise unusable
    authorization = None
    if url.username:
        words = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        authorization = f"Basic {base64.b64encode(words).decode('ascii')}"
    return ProxyAddress("https" if url.scheme == "https" else "http", url.hostname, port, authorization)
