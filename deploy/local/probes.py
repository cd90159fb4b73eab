"""The requests of a run: is a server up, is the key valid, does an answer come."""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import httpx2

from deploy.local.errors import CannotRun
from service.upstream.proxy import ProxyAddress, UnusableProxy, proxy_for

TIMEOUT_SECONDS = 10.0
"""Timeout for a response."""
ANSWER_SECONDS = 60.0
"""Timeout for the first answer of the model, on a slow machine."""

# Without the environment's proxies: these are ports of this machine.
_here = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_up(url: str) -> bool:
    """Return whether a server of this machine responds with 200."""
    try:
        with _here.open(url, timeout=TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)  # noqa: PLR2004
    except (OSError, HTTPException):
        return False


def last_event(generate_url: str, key: str | None) -> dict[str, Any]:
    """Ask for one token, return the answer's terminal event, and erase the answer."""
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    body = json.dumps({"query": "Hello", "max_tokens": 1}).encode()
    request = urllib.request.Request(generate_url, body, {"Content-Type": "application/json", **authorization})  # noqa: S310 - http of ours
    try:
        with _here.open(request, timeout=ANSWER_SECONDS) as response:
            event = _last(response)
            location = response.headers.get("Location", "")
        if location.startswith("/answers/"):
            url = generate_url.removesuffix("/generate") + location
            erase = urllib.request.Request(url, headers=authorization, method="DELETE")  # noqa: S310
            _here.open(erase, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        return {"type": "failed", "message": _message(error)}
    except (OSError, HTTPException) as error:
        return {"type": "failed", "message": str(error)}
    return event


def _last(lines: Iterator[bytes]) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "failed", "message": "the stream ended without an event"}
    for line in lines:
        if line.strip():
            event = json.loads(line)
    return event


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return f"{error.code}: {json.load(error)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return str(error)


def models(base_url: str, key: str) -> list[str]:
    """Return the models that the API lists, which checks its address and the key; empty if it has no such list.

    Raises:
        CannotRun: the API cannot be reached or rejects the key, or a variable names an invalid proxy.
    """
    try:
        proxy = proxy_for(base_url, os.environ)
    except UnusableProxy as error:
        raise CannotRun(f"The API at {base_url} cannot be reached. {error}.") from None
    headers = {"User-Agent": "folyam", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        with httpx2.Client(
            proxy=_proxy(proxy),
            trust_env=False,  # The proxy is decided above, as the service decides it.
            verify=ssl.create_default_context(),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=True,
        ) as client:
            response = client.get(base_url.rstrip("/") + "/models", headers=headers)
    except httpx2.HTTPError as error:
        raise CannotRun(
            f"The API at {base_url} cannot be reached ({error}). Check OPENAI_BASE_URL and the network, "
            "or unset OPENAI_API_KEY and OPENAI_BASE_URL to use the local model."
        ) from error
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        what = "the OPENAI_API_KEY" if key else "requests without an OPENAI_API_KEY"
        raise CannotRun(
            f"The API at {base_url} refuses {what} ({response.status_code}). Set OPENAI_API_KEY to a valid key for it, "
            "or unset OPENAI_API_KEY and OPENAI_BASE_URL to use the local model."
        )
    try:
        return [str(model["id"]) for model in response.json()["data"]] if response.is_success else []
    except (ValueError, KeyError, TypeError):
        return []


def _proxy(proxy: ProxyAddress | None) -> httpx2.Proxy | None:
    if proxy is None:
        return None
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    return httpx2.Proxy(f"{proxy.scheme}://{host}:{proxy.port}", headers=headers)
