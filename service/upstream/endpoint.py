"""The configuration of an OpenAI-compatible API, and the request for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2

from service.upstream.tls import ClientCertificate


@contextmanager
def _no_variables_of_the_package() -> Iterator[None]:
    """Hide the variables OPENAI_… from the openai package, which uses them for any endpoint and even if they are empty.

    Its arguments override some of them only. `service.config` reads those that are settings.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


with _no_variables_of_the_package():
    # At its import the package reads OPENAI_LOG, and sets up logging of its own: text among the lines of JSON.
    import openai

ThinkTags = Literal["auto", "on", "off"]
"""Whether `<think>` tags at the start of a text hold its reasoning: `auto` where the model is known to write them."""
Continuation = Literal["none", "assistant", "vllm", "prefix"]
"""An upstream's option to continue a given text: none; a last message of the role `assistant` (llama.cpp); such a
message with `continue_final_message` (vLLM); such a message with a `prefix` flag (DeepSeek, Mistral)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API and its options."""

    base_url: str
    api_key: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers in addition to those of the openai package."""
    model: str | None = None
    """Replaces the request's model, unless None."""
    continuation: Continuation = "none"
    system_prompt: str = field(default="", repr=False)
    think_tags: ThinkTags = "auto"
    certificate: ClientCertificate | None = None

    @property
    def max_tokens_name(self) -> str:
        """The parameter's name until a model refuses it.

        OpenAI's newer models reject `max_tokens`; other servers may not know its successor.
        """
        host = (urlsplit(self.base_url).hostname or "").rstrip(".")
        # OpenAI has addresses for regions, such as eu.api.openai.com.
        official = host == "api.openai.com" or host.endswith(".api.openai.com")
        return "max_completion_tokens" if official else "max_tokens"


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """Timeouts of an upstream, in seconds."""

    connect: float
    status: float
    first_chunk: float
    silence: float


def request_to(endpoint: Endpoint) -> httpx2.Request:
    """Return the openai package's request for the endpoint: the address, the credentials and the package's headers."""
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
            http_client=httpx2.Client(transport=httpx2.MockTransport(keep), trust_env=False),
            # A compressed stream arrives in blocks, not chunk by chunk.
            default_headers={**dict(endpoint.headers), "Accept-Encoding": "identity"},
        ) as client,
    ):
        client.post("/chat/completions", body={}, cast_to=httpx2.Response, stream=True, stream_cls=openai.Stream[Any])
    return made[0]
