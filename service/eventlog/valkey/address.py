"""The address of a Valkey, from a URL. It holds a password: no message repeats any part of it."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from service.eventlog.base import UnusableLog

PORT = 6379
SENTINEL_PORT = 26379
PREFIX = "folyam"
SCHEMES = ("valkey", "valkeys", "redis", "rediss", "valkey+sentinel", "valkeys+sentinel")
FORM = (
    "valkey://[user:password@]host[:port][/database][?prefix=folyam] (valkeys:// with TLS), or"
    " valkey+sentinel://host:port,host:port/<name of the primary>"
)
URL = re.compile(rf"({'|'.join(map(re.escape, SCHEMES))})://(?:([^/?#]*)@)?([^/?#@]+)(?:/([^/?#]*))?(?:\?([^#]*))?")
"""Scheme, credentials, hosts, path, query"""
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""Braces would change the slot of a key, and a colon the end of the prefix."""
_OPTIONS = frozenset(
    {"ca", "certificate", "database", "key", "prefix", "sentinel_password", "sentinel_user"},
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of the server's ACL, with its password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, with files in PEM form: authorities in place of the system's, and a client certificate."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A host's name or IP address, and a port."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a primary, or of the sentinels that know it."""

    hosts: tuple[Host, ...]
    """The server, or the sentinels."""
    primary: str | None = None
    """The sentinels' name of the primary; None without sentinels."""
    database: int = 0
    credentials: Credentials | None = None
    sentinel_credentials: Credentials | None = None
    tls: Tls | None = None
    prefix: str = PREFIX
    """The first part of every key's name."""


def parse_address(url: str) -> Address:
    """Return the address.

    Raises:
        UnusableLog: the URL is invalid. The text says what it should be.
    """
    match = URL.fullmatch(url)
    if match is None:
        raise UnusableLog(f"Should be {FORM}")
    scheme, credentials, hosts, path, query = match.groups()
    options = _options(query or "")
    by_sentinel = scheme.endswith("+sentinel")
    tls = _tls(scheme, options)
    prefix = options.get("prefix", PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise UnusableLog("The prefix should be 1 to 64 letters, digits and ._-")
    parsed = tuple(_host(host, SENTINEL_PORT if by_sentinel else PORT) for host in hosts.split(","))
    if not by_sentinel and len(parsed) > 1:
        raise UnusableLog("Several hosts need valkey+sentinel://")
    if by_sentinel and not path:
        raise UnusableLog("Behind the sentinels should be the name of the primary: valkey+sentinel://host:port/<name>")
    database = options.get("database", "") if by_sentinel else path or options.get("database", "")
    if not re.fullmatch(r"[0-9]{0,4}", database):
        raise UnusableLog("The database should be a number")
    return Address(
        hosts=parsed,
        primary=unquote(path) if by_sentinel else None,
        database=int(database or 0),
        credentials=_credentials(credentials),
        sentinel_credentials=_sentinel_credentials(options),
        tls=tls,
        prefix=prefix,
    )


def _options(query: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise UnusableLog("Behind the question mark should be <name>=<value>, with & between two of them") from None
    if not options.keys() <= _OPTIONS:
        raise UnusableLog(f"Behind the question mark should be no other names than {', '.join(sorted(_OPTIONS))}")
    return options


def _tls(scheme: str, options: dict[str, str]) -> Tls | None:
    tls = Tls(options.get("ca"), options.get("certificate"), options.get("key"))
    if scheme.removesuffix("+sentinel") in ("valkeys", "rediss"):
        if tls.key is not None and tls.certificate is None:
            raise UnusableLog("A key needs the certificate that it belongs to")
        return tls
    if tls != Tls():
        raise UnusableLog("Certificates need TLS: valkeys:// or valkeys+sentinel://")
    return None


def _host(text: str, port: int) -> Host:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[3] or port) < 65536:  # noqa: PLR2004 (the highest port)
        raise UnusableLog(f"Each host should be a name or an IP address, perhaps with a port: {FORM}")
    return Host(match[1] or match[2], int(match[3] or port))


def _credentials(text: str | None) -> Credentials | None:
    """Split `user:password`, `:password` or a password alone, each percent-encoded."""
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        user, password = "", text
    return Credentials(unquote(user) or "default", unquote(password))


def _sentinel_credentials(options: dict[str, str]) -> Credentials | None:
    password = options.get("sentinel_password")
    return None if password is None else Credentials(options.get("sentinel_user") or "default", password)
