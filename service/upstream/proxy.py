"""The proxy for a URL, decided from the usual environment variables. Pure.

`http_proxy` is for http URLs, `https_proxy` for https URLs, and `no_proxy` lists the exceptions. The names are in lower
case (curl's way) or else in upper case (Go's other way). An empty variable counts as unset.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}
_HOST_AND_PORT = re.compile(r"\[(?P<ipv6>[^\[\]]*)\](?::(?P<its_port>\d+))?|(?P<name>[^:\[\]]*):(?P<port>\d+)")
_PROXY = re.compile(r"[!-~]+")
"""Printable ASCII. `urlsplit` drops line ends and tabs wherever they are, and would accept another address."""

_Ip = IPv4Address | IPv6Address


class UnusableProxy(Exception):
    """The environment names an invalid proxy. The text names the variable and never shows its value."""


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """A proxy and the credentials for it."""

    scheme: Literal["http", "https"]
    """How the proxy itself is spoken to: in plain text, or over TLS."""
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of the header Proxy-Authorization; None without credentials."""


def proxy_for(url: str, environment: Mapping[str, str]) -> ProxyAddress | None:
    """Return the proxy for an absolute http or https URL; None if it is to be asked directly.

    An address of this machine is always asked directly, as in Go: to a proxy it would mean the proxy's own machine.

    Raises:
        UnusableProxy: the proxy is neither an HTTP nor an HTTPS proxy, or its address is malformed.
    """
    target = urlsplit(url)
    host = (target.hostname or "").rstrip(".")
    port = target.port or _PORTS[target.scheme]
    variable = next(
        (name for name in (f"{target.scheme}_proxy", f"{target.scheme}_proxy".upper()) if _value(name, environment)),
        None,
    )
    if variable is None or _is_of_this_machine(host) or _is_excepted(host, port, environment):
        return None
    return _parse(_value(variable, environment), variable)


def _value(name: str, environment: Mapping[str, str]) -> str:
    return environment.get(name, "").strip()


def _is_of_this_machine(host: str) -> bool:
    ip = _ip(host)
    if ip is None:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3
    return ip.is_loopback or ip.is_unspecified  # a connection to 0.0.0.0 is one to 127.0.0.1


def _is_excepted(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Return whether `no_proxy` has an entry for the host.

    An entry is a name, an IP address or a network (10.0.0.0/8), a name or an address with a port, or `*` for all hosts.
    A name includes its subdomains, with or without a dot or `*.` before it. Entries are separated by commas (curl, Go)
    or blanks (curl). Where curl and Go differ, the entry that either understands counts.
    """
    entries = _value("no_proxy", environment) or _value("NO_PROXY", environment)
    return any(entry == "*" or _matches(entry, host, port) for entry in re.split(r"[,\s]+", entries.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if parts := _HOST_AND_PORT.fullmatch(entry):
        entry = parts["name"] if parts["ipv6"] is None else parts["ipv6"]
        its_port = parts["port"] or parts["its_port"]
        if its_port and int(its_port) != port:
            return False
    if (ip := _ip(host)) is not None:
        return ip == _ip(entry) or _is_in_network(ip, entry)
    name = _ascii(entry.removeprefix("*").strip("."))
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _ip(text: str) -> _Ip | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _is_in_network(ip: _Ip, text: str) -> bool:
    try:
        return "/" in text and ip in ip_network(text, strict=False)
    except ValueError:
        return False


def _ascii(name: str) -> str:
    """Return a domain name as it is in a URL: an international one in its ASCII form."""
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _parse(address: str, variable: str) -> ProxyAddress:
    unusable = UnusableProxy(
        f"{variable}: Should be http://host:port or https://host:port; SOCKS proxies are not supported"
    )
    if not _PROXY.fullmatch(address):
        raise unusable
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port
    except ValueError:
        raise unusable from None
    if url.scheme not in _PORTS or not url.hostname or port == 0:
        raise unusable
    authorization = None
    if url.username or url.password:
        words = f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()
        authorization = f"Basic {base64.b64encode(words).decode('ascii')}"
    scheme: Literal["http", "https"] = "https" if url.scheme == "https" else "http"
    return ProxyAddress(scheme, url.hostname, port or _PORTS[scheme], authorization)
