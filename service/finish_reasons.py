"""The table of known finish reasons, and the meaning of each. Whatever depends on a reason's meaning reads this table.

Sources: the API references of OpenAI, Anthropic (also behind compatible servers), Azure, Bedrock, Cohere, DeepSeek,
Gemini, Mistral, Moonshot, OpenRouter, watsonx and z.ai; the sources of llama.cpp, Ollama, SGLang, TGI and vLLM.

`python -m service.finish_reasons` prints the table as docs/protocol/finish-reasons.json has it.
"""

import json
import re
from collections.abc import Mapping
from enum import StrEnum


class Meaning(StrEnum):
    """How the model's server ended an answer."""

    FINISHED = "finished"
    LENGTH = "length"
    """Cut short by a limit: `max_tokens`, the context window, or a time."""
    FILTERED = "filtered"
    """Cut short by a filter of the provider."""
    FAILED = "failed"
    UNKNOWN = "unknown"


_WORDS = {
    Meaning.FINISHED: (
        "stop",
        "stop_sequence",
        "stopped",
        "eos",
        "eos_token",
        "end_turn",
        "complete",
        "completed",
        "finished",
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
    ),
    Meaning.LENGTH: (
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_length",
        "model_length",
        "token_limit",
        "time_limit",
        "context_length",
        "context_length_exceeded",
        "context_window_exceeded",
        "model_context_window_exceeded",
    ),
    Meaning.FILTERED: (
        "content_filter",
        "content_filtered",
        "guardrail_intervened",
        "refusal",
        "safety",
        "sensitive",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
    ),
    Meaning.FAILED: (
        "error",
        "error_limit",
        "error_toxic",
        "network_error",
        "server_error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "failed",
        "insufficient_system_resource",
        "malformed_function_call",
        "unexpected_tool_call",
        "overloaded",
        "timeout",
    ),
}

KNOWN: Mapping[str, Meaning] = {word: meaning for meaning, words in _WORDS.items() for word in words}
"""The meaning of each known reason. Upper and lower case are the same: Gemini and Cohere write `MAX_TOKENS`."""

_FAILURE = re.compile(
    r"error|fail|abort|cancel|insufficient|exhausted|malformed|unexpected|unavailable|overload|interrupt|time_?out",
    re.IGNORECASE,
)
"""Parts of an unknown reason that names a failure: `function_call_filter: MALFORMED_FUNCTION_CALL` (Gemini)."""


def meaning_of(reason: str) -> Meaning:
    """Return the meaning of a finish reason. An empty one means finished: some servers say `[DONE]` and no reason."""
    if not reason:
        return Meaning.FINISHED
    known = KNOWN.get(reason.lower())
    if known is not None:
        return known
    return Meaning.FAILED if _FAILURE.search(reason) else Meaning.UNKNOWN


def table() -> str:
    """Return the table as docs/protocol/finish-reasons.json has it."""
    return json.dumps(_WORDS, indent=2)


if __name__ == "__main__":
    print(table())  # noqa: T201 (python -m service.finish_reasons writes docs/protocol/finish-reasons.json)
