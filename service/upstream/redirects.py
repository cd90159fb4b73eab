"""Redirects that keep the method, within one server. Pure.

A redirect to another server is not followed, whatever its scheme: the key and the question are for the server that the
operator has named. That includes `http://` to `https://`, where each question would be sent in the clear first.
"""

from collections.abc import Iterable
from http import HTTPStatus

import httpx2

MOST_REDIRECTS = 3
"""Limit on the redirects of one request."""
_KEEPS_METHOD = (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)
"""With 301, 302 and 303, clients turn a POST into a GET without a body (RFC 9110, 15.4)."""


def redirected_to(url: httpx2.URL, status: int, headers: Iterable[tuple[bytes, bytes]]) -> httpx2.URL | None:
    """Return the address to which a response from `url` redirects; None if it does not, or is not to be followed."""
    if status not in _KEEPS_METHOD:
        return None
    location = next((value for name, value in headers if name.lower() == b"location"), b"")
    try:
        target = url.join(location.decode("ascii"))
    except (UnicodeDecodeError, httpx2.InvalidURL):
        return None
    is_same_server = (target.scheme, target.host, _port(target)) == (url.scheme, url.host, _port(url))
    return target if location and is_same_server and not target.userinfo else None


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)
