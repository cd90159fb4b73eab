"""The answers' logs, as the server of the log has them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valkey import Valkey
from valkey.exceptions import ValkeyError

from service.events import Attempt, Delta, decode_any
from service.recovery import NONE_BEFORE
from tests.e2e.logfile import PRIVATE, Event
from tests.faults.checks import text_of
from tests.faults.viewing import TERMINAL

EVENTS, CLAIM, ANEW = "e", "c", "a"
PREFIX = "folyam"


@dataclass(frozen=True)
class LogEntry:
    """What one append or claim wrote."""

    seq: int
    kind: str
    events: tuple[Event, ...]
    """Without private fields."""
    claimer: str
    lines: bytes


@dataclass(frozen=True)
class ServerLog:
    """One answer's log, and what is noted of it."""

    answer: str
    entries: tuple[LogEntry, ...] = ()
    events: tuple[Event, ...] = field(default=(), init=False)
    """The events of the answer, without those that were given anew."""

    def __post_init__(self) -> None:
        events = tuple(event for entry in self.entries if entry.kind == EVENTS for event in entry.events)
        object.__setattr__(self, "events", events)

    @property
    def has_ended(self) -> bool:
        """Whether it has a terminal event."""
        return bool(self.events) and self.events[-1]["type"] in TERMINAL

    @property
    def request(self) -> dict[str, Any]:
        """The request; empty if the log has none."""
        first = json.loads(self.entries[0].lines.partition(b"\n")[0]) if self.entries else {}
        request = first.get("request", {})
        return request if isinstance(request, dict) else {}

    @property
    def claims(self) -> str:
        """The take-overs: `+` for each after which the text grew, `.` for each other. A renewal is none."""
        claims, owner = "", ""
        for entry in self.entries:
            if entry.kind == CLAIM:
                claims += "." if entry.claimer != owner else ""
                owner = entry.claimer
            elif entry.kind == EVENTS and claims.endswith(".") and text_of(entry.events):
                claims = claims[:-1] + "+"
        return claims

    @property
    def attempts(self) -> Attempt:
        """The last further request to the upstream; one that is none where the log has none."""
        lines = [line for entry in self.entries for line in entry.lines.split(b"\n") if b'"attempt":' in line]
        events = [decode_any(line) for line in lines]
        made = [event.attempt for event in events if isinstance(event, Delta) and event.attempt is not None]
        return made[-1] if made else NONE_BEFORE

    def given_anew(self, seq: int) -> LogEntry | None:
        """Return the entry of a text that was given anew, whose restart has this number."""
        anew = (entry for entry in self.entries if entry.kind == ANEW)
        return next((entry for entry in anew if entry.events and entry.events[0]["seq"] == seq), None)

    def behind(self, entry: LogEntry) -> list[Event]:
        """Return the events of the answer behind the entry."""
        return [event for event in self.events if event["seq"] > entry.seq]

    def text_before(self, entry: LogEntry) -> str:
        """Return the text of the answer up to the entry."""
        return text_of([event for event in self.events if event["seq"] < entry.seq])

    def write(self, file: Path) -> None:
        """Write all entries, as evidence."""
        lines = [f"{each.seq} {each.kind} {each.claimer or each.lines.decode()}" for each in self.entries]
        file.write_text("\n".join(lines) + "\n")


class ServerLogs:
    """The logs of all answers. The methods block, and raise what the client raises while the server is away."""

    def __init__(self, client: Callable[[], Valkey]) -> None:
        self._client = client

    def read(self, answer: str) -> ServerLog:
        """Return the log, which is empty where the server has none."""
        with self._client() as client:
            return _read(client, answer)

    def all(self) -> Iterator[ServerLog]:
        """Yield all logs."""
        with self._client() as client:
            for answer in _names(client, "log"):
                yield _read(client, answer)

    def running(self) -> list[str]:
        """Return the answers that have a lease: those without a terminal event."""
        with self._client() as client:
            return _names(client, "lease")


def _names(client: Valkey, what: str) -> list[str]:
    found = client.scan_iter(f"{PREFIX}:{{*}}:{what}", count=1000)
    return sorted({name.decode().partition("{")[2].partition("}")[0] for name in found})


def _read(client: Valkey, answer: str) -> ServerLog:
    reply: Any = client.xrange(f"{PREFIX}:{{{answer}}}:log")
    return ServerLog(answer, tuple(_entry(name, fields) for name, fields in reply))


def _entry(name: bytes, fields: Any) -> LogEntry:  # noqa: ANN401 (a mapping or a list, by the client's protocol)
    seq = int(name.partition(b"-")[0])
    [(kind, value)] = fields.items() if isinstance(fields, dict) else [tuple(fields)]
    if kind == b"c":
        return LogEntry(seq, CLAIM, (), value.decode(), b"")
    events = [json.loads(line) for line in value.split(b"\n") if line]
    public = tuple({key: each for key, each in event.items() if key not in PRIVATE} for event in events)
    return LogEntry(seq, kind.decode(), public, "", value)


AWAY = (OSError, ValkeyError)
"""What reading raises while the server is away."""
