"""The script of an upstream for one request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import msgspec

from tests.upstream.tools import Call, Style

DEFAULT_ERROR: Mapping[str, Any] = {"message": "scripted error", "type": "server_error", "param": None, "code": None}


@dataclass(frozen=True)
class Script:
    """The course of one answer. The defaults are a regular short answer.

    "After N" counts the text chunks sent by this one request; 0 is before the first. A request that continues a
    given text (its last message is the assistant's) starts behind it, so an "after N" that lies in the given
    text does not come again.
    """

    key: str = ""
    """Free name to find the request by: `GET /requests?key=…`."""
    first: tuple[dict[str, Any], ...] = ()
    """Fields to override in the first, second, … request of this key; later ones follow the script as it is."""

    # What is said
    chunks: int = 8
    """Number of text chunks."""
    endless: bool = False
    """Ignore `chunks` and send text chunks without end, until `POST /end?key=…`."""
    text: str = "w{n} "
    """The text of chunk n, counted from 1."""
    texts: tuple[str, ...] | None = None
    """The text chunks one by one, instead of `chunks` and `text`."""
    stamp: bool = False
    """Begin each text chunk with its send time (see `tests.upstream.stamp`)."""
    reasoning: tuple[str, ...] = ()
    """Reasoning chunks, sent before the text."""
    reasoning_field: str = "reasoning_content"
    """The delta's field that carries them; some servers call it `reasoning`."""
    tool_calls: tuple[Call, ...] = ()
    """Calls of tools, sent after the text: `[{"name": "weather", "arguments": ["{\\"city\\":", "\\"Győr\\"}"]}]`."""
    tool_style: tuple[Style, ...] = ()
    """How they are split into deltas (see `tests.upstream.tools`)."""
    after_tools: dict[str, Any] = field(default_factory=dict)
    """Fields to override where the results of tools stand behind the last user message. No tool is called then, unless
    a field here says so; `{results}` in `text` and `texts` is what the tools returned."""
    refusal: str = ""
    """Sent as a refusal delta after the text."""
    choices: int = 1
    """Every text chunk is sent for each of so many choices, each with an event of its own."""
    role: bool = True
    """Open with a chunk that has the role and an empty text."""
    finish_reason: str | None = ""
    """Empty: `tool_calls` behind calls of tools, else `stop`. None: a clean end without a finish reason."""
    usage: bool = True
    """Send the usage when `stream_options.include_usage` asks for it; false: not even then."""
    no_done: bool = False
    """Leave out the last `data: [DONE]`."""

    # When
    status_delay: float = 0.0
    """Seconds before the status line."""
    first_chunk_delay: float = 0.0
    """Seconds between the headers and the first event."""
    pace: float = 0.0
    """Seconds from one chunk to the next; 0 sends as fast as the reader takes it."""
    on_demand: bool = False
    """Send a chunk, what follows the last one, and the end only when `POST /next?key=…` asks for the next of them."""
    batch: int = 1
    """Text chunks joined into one write, as a fast server's are on their way."""
    ping_every: float = 0.0
    """Seconds between `: ping` comments while there is nothing else to send; 0 sends none."""

    # How the answer goes wrong
    status: int = 200
    """Another status than 200 is sent with `error` as its body."""
    headers: dict[str, str] = field(default_factory=dict)
    """More response headers, for example `{"Retry-After": "7"}`."""
    error: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_ERROR))
    """The error object, for `status` and `error_after`."""
    refuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Parameters, and roles of messages, that are not taken: each with the error object of the 400."""
    refuses_with: int = 400
    """Another status for these."""
    error_after: int | None = None
    """Send `data: {"error": …}` in mid-stream, and end."""
    stall_after: int | None = None
    """Fall silent, with the connection open, for ever."""
    cut_after: int | None = None
    """End the connection without ending the body."""
    cut: Literal["rst", "fin"] = "rst"
    """The kind of cut: a reset, or an orderly close."""
    truncate_after: int | None = None
    """Send half of the next event, then end the body as if it were whole."""
    garbage_after: int | None = None
    """Send `garbage`, then go on."""
    garbage: str = 'data: {"choices": [oops\n\n'
    """The characters are the bytes (latin-1), so any byte can be sent."""
    huge_after: int | None = None
    """Send one line of `huge` bytes that no newline ends, then end the body."""
    huge: int = 16 << 20
    """Bytes."""

    break_at: int | None = None
    """Break off behind so many bytes of the body, wherever that is."""
    break_how: Literal["reset", "stall", "truncate", "garbage", "die"] = "reset"
    """How: a reset; silence; a clean end; bytes that are no event, and then a clean end; the death of the process."""
    break_mark: str = ""
    """Path of a file that the first request creates, whichever process gets it. Where it is there, nothing breaks."""
    continues: bool = True
    """False: a given text is passed over, and the answer begins from its start."""
    accept_reasoning: bool = True
    """False: 400 if reasoning is handed back to be continued."""
    echo: Literal["", "word", "all", "stripped"] = ""
    """What a continuation repeats of the given text: nothing, its last word, all; or that it lacks its first blanks."""

    # How it is written
    escape: bool = True
    """False: characters beyond ASCII are sent as UTF-8."""
    halves: bool = False
    """Split characters beyond U+FFFF between their two escapes into two chunks. Needs `escape`."""
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    """The line ending of the event stream."""
    comments: bool = False
    """A `: ping` comment before each chunk."""
    split: Literal["bytes"] | tuple[int, ...] | None = None
    """Cut the body at these offsets, or at every byte, into writes `pace` apart (0: a loop turn apart)."""
    raw: str | None = None
    """Send this body (base64) and nothing else."""
    content_type: str = "text/event-stream; charset=utf-8"
    """Of the stream, or of `raw`."""

    def for_request(self, earlier: int) -> "Script":
        """The script of a request of this key that `earlier` others came before."""
        if earlier >= len(self.first):
            return self
        return parse({**asdict(self), **self.first[earlier], "first": ()})

    def behind_tools(self, results: Sequence[str]) -> "Script":
        """The script of a request with these results of tools behind its last user message."""
        if not results:
            return self
        script = parse({**asdict(self), "tool_calls": (), "after_tools": {}, **self.after_tools})
        told = ", ".join(results)
        texts = None if script.texts is None else tuple(text.replace("{results}", told) for text in script.texts)
        return replace(script, text=script.text.replace("{results}", told), texts=texts)

    @property
    def ends_with(self) -> str | None:
        """The finish reason."""
        if self.finish_reason == "":
            return "tool_calls" if self.tool_calls else "stop"
        return self.finish_reason


class NotAScript(ValueError):  # reads as what it says: this text commands nothing that exists
    """A JSON object that names a field which does not exist, or gives one a wrong value."""


FIELDS = frozenset(each.name for each in fields(Script))


def parse(given: Mapping[str, Any]) -> Script:
    """A script from its JSON object."""
    if unknown := given.keys() - FIELDS:
        raise NotAScript(f"no such field: {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(given, Script)
    except msgspec.ValidationError as error:
        raise NotAScript(str(error)) from error


def from_query(query: str) -> Script:
    """Return the script in a user's message; the default for a text that is not a JSON object."""
    if not query.lstrip().startswith("{"):
        return Script()
    try:
        given = json.loads(query)
    except ValueError:
        return Script()
    return parse(given)


def command(**chosen: Any) -> str:  # noqa: ANN401  # the fields of Script, checked by parse
    """The query text that commands a script: `command(chunks=3, cut_after=2)`."""
    parse(chosen)
    return json.dumps(chosen)
