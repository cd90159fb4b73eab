"""The part of an answer's token usage that telemetry reads."""

from collections.abc import Mapping
from typing import Protocol


class Usage(Protocol):
    """The `usage` of the chat-completions API, in tokens. A detail is absent or None where it was not counted."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the request's messages."""

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer."""

    @property
    def prompt_tokens_details(self) -> Mapping[str, int | None] | None:
        """`cached_tokens`, among others."""

    @property
    def completion_tokens_details(self) -> Mapping[str, int | None] | None:
        """`reasoning_tokens`, among others."""


def cached_tokens(usage: Usage) -> int | None:
    """Return the tokens of the prompt that the upstream had cached; None if it did not count them."""
    return (usage.prompt_tokens_details or {}).get("cached_tokens")


def reasoning_tokens(usage: Usage) -> int | None:
    """Return the tokens of the completion that were reasoning; None if the upstream did not count them."""
    return (usage.completion_tokens_details or {}).get("reasoning_tokens")
