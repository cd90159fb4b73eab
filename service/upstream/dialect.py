"""The names under which a model takes the parameters that servers disagree about, learnt from its refusals. No I/O.

OpenAI's newer models take `max_completion_tokens` and reject `max_tokens`, which is the only name that other servers
know. Some servers reject `stream_options`. Some models take instructions under one of the roles `system` and
`developer`. Which is right depends on the model, and can change with a deployment of the server.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import msgspec

from service.request import Turn, decoded

MOST_MODELS = 256
"""Limit on the models of an endpoint whose dialects are remembered. The one learnt first is forgotten first."""
MOST_STATEMENTS = 100
"""Limit on the objects of an error that are read. 64 KiB of `{}` would hold the event loop for 100 ms."""
LEARNT_SECONDS = 3600.0
"""Time for which a dialect is remembered. No refusal would tell that a server takes `stream_options` again."""

WITH_USAGE = {"stream_options": {"include_usage": True}}
"""Request the usage in a last chunk."""

MaxTokens = Literal["max_tokens", "max_completion_tokens"]
Instructor = Literal["system", "developer"]

_OTHER_NAME: dict[MaxTokens, MaxTokens] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_OTHER_ROLE: dict[Instructor, Instructor] = {"system": "developer", "developer": "system"}

_REFUSES = re.compile(
    r"unsupported|(not|n't) support|unknown|unrecogni[sz]ed|unexpected|extra[ _](inputs?|fields?|forbidden)"
    r"|(not|n't) (permitted|allowed|accepted)|additional propert|cannot find field",
    re.IGNORECASE,
)
"""Words for a parameter that a server does not take."""
_BOUNDS = re.compile(
    r"too (large|long|big|high|small|low)|at (most|least)|maximum|minimum|less than|greater than|range|exceed",
    re.IGNORECASE,
)
"""Words for a value that is out of bounds: the server takes the parameter."""
_REFUSES_ROLE = re.compile(_REFUSES.pattern + r"|invalid|literal_error|should be|expected", re.IGNORECASE)
_TAKEN = re.compile(r"(should be|expected|supported values).*", re.IGNORECASE | re.DOTALL)
"""The end of a sentence that lists the values that a server does take."""
_ROLE = re.compile(r"(?<![a-z0-9_])(system|developer)(?![a-z0-9_])", re.IGNORECASE)
_ECHOES = frozenset({"body", "input", "messages", "request"})
"""Fields in which a server repeats the request. The words in it are a person's."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one model takes. The defaults are what is asked for until the model refuses it."""

    max_tokens: MaxTokens | None = None
    """The name of the limit on tokens; None for the name in the request."""
    stream_options: bool = True
    instructor: Instructor | None = None
    """The role of instructions; None for the role in the request."""

    def express(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request's body in this dialect."""
        body = {**payload, **WITH_USAGE} if self.stream_options else dict(payload)
        if not self.stream_options:
            body.pop("stream_options", None)
        name = self.max_tokens
        if name and (limit := body.pop(_OTHER_NAME[name], None)) is not None:
            body.setdefault(name, limit)
        if self.instructor:
            body["messages"] = [_instructed(each, self.instructor) for each in body["messages"]]
        return body

    def corrected(self, sent: Mapping[str, Any], refusal: bytes) -> "Dialect | None":
        """Return the dialect for another try after the model has refused the body `sent`; None if there is none.

        `refusal` is the body of the response. Only a refusal that names what it does not take leads to another try.
        """
        for words in islice(_statements(refusal), MOST_STATEMENTS):
            if "stream_options" in sent and _refuses(words, "stream_options"):
                return replace(self, stream_options=False)
            for name, other in _OTHER_NAME.items():
                if name in sent and _refuses(words, name) and not _BOUNDS.search(words):
                    return replace(self, max_tokens=other)
            role = _refused_role(words)
            if role and any(_role(message) == role for message in sent["messages"]):
                return replace(self, instructor=_OTHER_ROLE[role])
        return None


_UNKNOWN = Dialect()


class Dialects:
    """The dialects that an endpoint's models were found to take. Each worker finds out by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._learnt: dict[str, tuple[Dialect, float]] = {}

    def of(self, model: str) -> Dialect:
        """Return the model's dialect, as far as it is known."""
        known = self._learnt.get(model)
        if known is None:
            return _UNKNOWN
        dialect, since = known
        if self._clock() - since < LEARNT_SECONDS:
            return dialect
        del self._learnt[model]
        return _UNKNOWN

    def learn(self, model: str, dialect: Dialect) -> None:
        """Remember the dialect of a request that the model has accepted."""
        self._learnt.pop(model, None)
        if len(self._learnt) >= MOST_MODELS:
            del self._learnt[next(iter(self._learnt))]
        self._learnt[model] = (dialect, self._clock())


class _Message(msgspec.Struct, gc=False):
    role: str = ""


_decode_role = msgspec.json.Decoder(_Message).decode


def _instructed(message: Any, role: Instructor) -> Any:  # noqa: ANN401 (messages pass through unread)
    if _role(message) != _OTHER_ROLE[role]:
        return message
    message = decoded(message)
    return {"role": role, "content": message.content} if isinstance(message, Turn) else {**message, "role": role}


def _role(message: Any) -> object:  # noqa: ANN401 (the same)
    if isinstance(message, msgspec.Raw):
        return _decode_role(message).role
    return message.role if isinstance(message, Turn) else message.get("role") if isinstance(message, dict) else None


def _refuses(words: str, name: str) -> bool:
    return bool(_REFUSES.search(words) and re.search(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", words))


def _refused_role(words: str) -> Instructor | None:
    """Return the role that the words refuse: the first that they name, apart from those that they list as taken."""
    if not re.search(r"(?<![A-Za-z0-9])roles?(?![A-Za-z0-9])", words, re.IGNORECASE) or not _REFUSES_ROLE.search(words):
        return None
    named = _ROLE.search(_TAKEN.sub("", words))
    if named is None:
        return None
    return "system" if named[1].lower() == "system" else "developer"


def _statements(refusal: bytes) -> Iterator[str]:
    """Yield the words of each object of an error's JSON; all of a text that is not JSON.

    What a refusal is about, and the refusal itself, may be in different fields of an object: OpenAI has `param` and
    `code`, FastAPI `loc` and `msg`.
    """
    try:
        waiting = deque([msgspec.json.decode(refusal)])  # the outermost first
    except (ValueError, RecursionError):
        yield refusal.decode("utf-8", "replace")
        return
    while waiting:
        value = waiting.popleft()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            yield " ".join(_words(value))
            waiting += [each for name, each in value.items() if name not in _ECHOES and not isinstance(each, str)]


def _words(values: dict[str, Any]) -> Iterator[str]:
    if isinstance(refused := values.get("input"), str) and _ROLE.fullmatch(refused):  # FastAPI's refused value
        yield refused
    for name, value in values.items():
        if name in _ECHOES:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield each
