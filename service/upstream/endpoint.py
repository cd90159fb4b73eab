"""The configuration of an OpenAI-compatible API, and the request for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2

from service.answer import Said
from service.tls import ClientCertificate
from service.upstream.overlap import split


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

Kind = Literal["chat", "folyam", "llama.cpp", "responses"]
"""The API that an upstream speaks: chat completions, or one that keeps its runs: another Folyam's own, llama.cpp's chat
completions, or OpenAI's Responses in background mode."""
_PATHS: dict[Kind, str] = {
    "chat": "/chat/completions",
    "folyam": "/generate",
    "llama.cpp": "/chat/completions",
    "responses": "/responses",
}

Continuation = Literal["none", "assistant", "vllm", "prefix"]
"""An upstream's option to continue a given text: none; a last message of the role `assistant` (llama.cpp); such a
message with `continue_final_message` (vLLM); such a message with a `prefix` flag (DeepSeek, Mistral)."""

Role = Literal["primary", "fallback"]


def continuing(endpoint: "Endpoint", said: Said) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the message that hands the answer so far back to be continued, and the fields that go with it.

    The text is handed back without the white space at its end (`service.upstream.overlap`). Reasoning is handed back
    in the way of each server:

    - llama.cpp, since May 2026, goes on in the middle of `reasoning_content`, or behind it where there is a text. An
      older one refuses such a message of a model that thinks.
    - vLLM renders the message by the model's template, which leaves out the reasoning of most models. As text between
      the tags that these models write, it is continued, and vLLM's reasoning parser looks for them there, too.
    - DeepSeek takes `reasoning_content` beside `prefix`.
    - Mistral knows no such field, and refuses it. It takes the content in the parts in which it sends it. A thinking
      part says whether it is `closed`, which is for a prefix
      (https://github.com/mistralai/client-python/blob/main/docs/models/thinkchunk.md).
    """
    text, _ = split(said.text)
    reasoning, _ = split(said.reasoning)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    fields: dict[str, Any] = {}
    continuation = endpoint.way_to_continue
    if continuation == "vllm":
        fields = {"continue_final_message": True, "add_generation_prompt": False}
        if reasoning:
            # Blanks are a text, too: the reasoning has ended.
            message["content"] = f"<think>\n{reasoning}" + (f"\n</think>\n\n{text}" if said.text else "")
    elif reasoning and continuation == "prefix" and endpoint.is_mistral:
        thoughts = [{"type": "text", "text": reasoning}]
        message["content"] = [{"type": "thinking", "thinking": thoughts, "closed": bool(said.text)}]
        if text:
            message["content"].append({"type": "text", "text": text})
    elif reasoning:
        message["reasoning_content"] = reasoning
    if continuation == "prefix":
        message["prefix"] = True
    return message, fields


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API and its options."""

    base_url: str
    api_key: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers in addition to those of the openai package."""
    model: str | None = None
    """Replaces the request's model, unless None."""
    kind: Kind = "chat"
    continuation: Continuation = "none"
    system_prompt: str = field(default="", repr=False)
    think_tags: ThinkTags = "auto"
    certificate: ClientCertificate | None = None
    role: Role = "primary"
    """The label of the endpoint in metrics, traces and the log."""

    @property
    def continues(self) -> bool:
        """Whether it can go on from a given text. Only chat completions can."""
        return self.way_to_continue != "none"

    @property
    def way_to_continue(self) -> Continuation:
        """The way in which it goes on from a given text: llama.cpp has one, and another API than chat's has none."""
        if self.kind == "llama.cpp":
            return "assistant"
        return self.continuation if self.kind == "chat" else "none"

    @property
    def max_tokens_name(self) -> str:
        """The parameter's name until a model refuses it.

        OpenAI's newer models reject `max_tokens`; other servers may not know its successor.
        """
        # OpenAI has addresses for regions, such as eu.api.openai.com.
        return "max_completion_tokens" if self._is_at("api.openai.com") else "max_tokens"

    @property
    def is_mistral(self) -> bool:
        """Whether it is Mistral's own API."""
        return self._is_at("mistral.ai")

    def _is_at(self, domain: str) -> bool:
        host = (urlsplit(self.base_url).hostname or "").rstrip(".")
        return host == domain or host.endswith(f".{domain}")


@dataclass(frozen=True, slots=True)
class TimeOuts:
    """Timeouts of an upstream, in seconds."""

    connect: float
    status: float
    first_chunk: float
    silence: float


def path_of(endpoint: Endpoint) -> str:
    """Return the path of the endpoint's requests, behind its base URL."""
    return _PATHS[endpoint.kind]


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
        client.post(path_of(endpoint), body={}, cast_to=httpx2.Response, stream=True, stream_cls=openai.Stream[Any])
    return made[0]
