"""The neutral request. Every door translates into it, and every upstream is asked from it."""

from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    Json = Any
else:
    Json = msgspec.Raw  # what msgspec makes of it where it reads a request from a log

_SHAPES = (
    *("tools", "functions", "response_format"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "ebnf", "regex"),
    *("grammar", "json_schema", "format"),
)
"""Parameters that ask for more than a text, also as vLLM, SGLang, llama.cpp and Ollama call them."""
_NO_SHAPE: tuple[Any, ...] = (None, False, "", {"type": "text"}, [], {})

MOST_DECODED_BYTES = 1 << 20
"""Length of the longest message that is read for the form of `/generate`, which takes no longer body."""


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of the conversation: a message that is a text and nothing else."""

    role: Literal["user", "assistant", "system"]
    content: str


class Via(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer was asked for. It is private, and stays in the log for every later follower and producer."""

    door: str
    """The endpoint family."""
    echo: dict[str, Json] = {}
    """What the door's responses repeat of the request: JSON values, and raw JSON where they were read from a log. Every
    follower reads them, and none needs to decode a message of a megabyte."""
    background: bool = False
    """Whether the answer goes on without a follower until it ends or is stopped."""
    kept: bool = True
    """Whether the answer is kept once a response with it was delivered."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request in the form of the chat-completions API, for a producer in any worker.

    Messages and parameters go to the upstream unread, so that content parts and tools pass through. Each is a JSON
    value or raw JSON (`msgspec.Raw`), and always raw where the request was read from a log. `decoded` decodes it.
    """

    model: str
    messages: tuple[Json, ...]
    """Each is a `Turn` or a JSON object. A `Turn` becomes the same JSON, and costs a third to make, check and write."""
    parameters: dict[str, Json] = {}
    """The body's further fields. The upstream sets `model`, `messages`, `stream` and `stream_options` itself, and sends
    `max_tokens` under the name that the model takes."""
    traceparent: str = ""
    """The span of the request, where there are traces."""
    via: Via | None = None
    """None for `/generate`. In a log it stands beside the request, in `Start`."""


class GenerateRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request in the form of `/generate`: in a log, the only form that versions before the neutral one read."""

    query: str
    model: str
    history: tuple[Turn, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    traceparent: str = ""

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """Return the request in this form, or None where the form cannot express all of it."""
        turns = request.messages
        for each in turns:
            if type(each) is not Turn:
                turns = _turns(turns)
                break
        if not turns or turns[-1].role != "user":
            return None
        temperature = max_tokens = None
        for name, given in request.parameters.items():
            if name not in ("temperature", "max_tokens"):
                return None
            value = given if type(given) in (float, int) else decoded(given)
            if name == "temperature" and type(value) in (float, int):
                temperature = value
            elif name == "max_tokens" and type(value) is int:
                max_tokens = value
            else:
                return None
        return cls(turns[-1].content, request.model, turns[:-1], temperature, max_tokens, request.traceparent)

    def neutral(self) -> Request:
        """Return the same request, as producers and upstreams take it."""
        parameters: dict[str, Any] = {}
        if self.temperature is not None:
            parameters["temperature"] = self.temperature
        if self.max_tokens is not None:
            parameters["max_tokens"] = self.max_tokens
        return Request(self.model, (*self.history, Turn("user", self.query)), parameters, self.traceparent)


def _turns(messages: tuple[Any, ...]) -> tuple[Turn, ...]:
    """Return the messages as turns; none if one of them is more than a text."""
    try:
        return tuple([each if type(each) is Turn else _turn(each) for each in messages])
    except (ValueError, RecursionError):
        return ()


def _turn(message: object) -> Turn:
    if not isinstance(message, msgspec.Raw):
        return msgspec.convert(message, Turn)
    if len(memoryview(message)) > MOST_DECODED_BYTES:
        raise ValueError
    return msgspec.json.decode(message, type=Turn)


def may_be_continued(request: Request) -> bool:
    """Return whether a model may be given the answer's beginning to go on from.

    Not where it may call tools, or keeps to a form: behind a given text it would begin the form once more.
    """
    return all(decoded(request.parameters.get(name)) in _NO_SHAPE for name in _SHAPES)


def decoded(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """Return the JSON value, where it may be raw; None for what this version cannot decode."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):  # half of a surrogate pair, which is valid JSON; an endless nesting
        return None
