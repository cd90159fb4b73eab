"""An OpenAI-compatible API as it is configured, and the request that is sent to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai

Continuation = Literal["none", "assistant", "vllm", "prefix"]
"""How an upstream goes on from a given text: not at all; from a last message of the role `assistant` (llama.cpp); the
same with `continue_final_message` (vLLM); the same with a `prefix` flag on it (DeepSeek, Mistral)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API, and what it can do."""

    base_url: str
    api_key: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent besides those of the openai package."""
    model: str | None = None
    """Asked for in place of the request's model, where it is set."""
    continuation: Continuation = "none"
    system_prompt: str = field(default="", repr=False)

    @property
    def max_tokens_name(self) -> str:
        """OpenAI's newer models refuse `max_tokens`; other servers may not know its successor."""
        official = urlsplit(self.base_url).hostname == "api.openai.com"
        return "max_completion_tokens" if official else "max_tokens"


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """How long an upstream may take, in seconds."""

    connect: float
    status: float
    first_chunk: float
    silence: float


@contextmanager
def _no_variables_of_the_package() -> Iterator[None]:
    """Hide OPENAI_… from the openai package, which would read them for any endpoint, and also where they are empty.

    It takes an argument in place of each but OPENAI_CUSTOM_HEADERS. `service.config` reads those that are settings.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def request_to(endpoint: Endpoint) -> httpx2.Request:
    """Return the request that the openai package makes for the endpoint: address, credentials and its own headers."""
    made: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        made.append(request)
        return httpx2.Response(HTTPStatus.OK)

    with (
        _no_variables_of_the_package(),
        openai.OpenAI(
            api_key=endpoint.api_key,
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=None,
            http_client=httpx2.Client(transport=httpx2.MockTransport(keep)),
            # A compressed stream comes in blocks, not as it is written.
            default_headers={**dict(endpoint.headers), "Accept-Encoding": "identity"},
        ) as client,
    ):
        client.post("/chat/completions", body={}, cast_to=httpx2.Response, stream=True, stream_cls=openai.Stream[Any])
    return made[0]
