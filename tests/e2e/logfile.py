"""Compare an answer's log file with the events that a client received."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]

PRIVATE = ("request", "chat", "at", "owner", "run", "attempt")
VOICES = ("text", "reasoning", "refusal")


def read_log(directory: Path, answer: str) -> list[Event]:
    """Return the log's events without private fields. See `public` for those that have no others."""
    text = (directory / f"{answer}.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1]  # The rest was torn by its writer's death, or is being written.
    events = [json.loads(line) for line in whole.split("\n") if line]
    return [{name: value for name, value in event.items() if name not in PRIVATE} for event in events]


def public(log: Iterable[Event]) -> list[Event]:
    """Return the events that clients receive."""
    return [event for event in log if event["type"] != "delta" or event.keys() - {"type", "seq"}]


def unmerged(seen: Sequence[Event], log: Sequence[Event]) -> list[Event]:
    """Return the log's events that the client received, with each merged delta split into its parts.

    Raises:
        AssertionError: a client's event does not match the log's events since the previous one.
    """
    parts: list[Event] = []
    at = seen[0]["seq"] - 1 if seen and seen[0]["type"] != "delta" else None
    for event in seen:
        if event["type"] == "delta" and "seam" not in event:
            parts += _held(event, log, at)
        else:
            parts.append(event)
        assert at is None or parts[-1]["seq"] > at
        at = event["seq"]
    return parts


def _held(event: Event, log: Sequence[Event], after: int | None) -> list[Event]:
    voice = next(voice for voice in VOICES if voice in event)
    held: list[Event] = []
    text = ""
    for each in reversed(public(log[: event["seq"]])):
        if (after is not None and each["seq"] <= after) or (after is None and text == event[voice]):
            break
        assert each["type"] == "delta", f"{event} holds {each}"
        assert "seam" not in each, f"{event} goes over {each}"
        held.append(each)
        text = each[voice] + text
    assert text == event[voice], f"{event} is not what the log has up to it"
    return held[::-1]


def assert_equals_log(*pieces: Iterable[Event], log: Sequence[Event]) -> None:
    """Assert that the concatenated pieces are the log: no gap and no duplicate."""
    seen = [event for piece in pieces for event in unmerged(list(piece), log)]
    assert seen == public(log)


def json_events(body: bytes) -> list[Event]:
    """Return the complete events of JSON lines that may be cut anywhere."""
    whole = body[: body.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.split(b"\n") if line]


def sse_events(body: bytes) -> list[Event]:
    """Return the complete events of an SSE stream that may be cut anywhere."""
    whole = body[: body.rfind(b"\n\n") + 2] if b"\n\n" in body else b""
    return [json.loads(line.removeprefix(b"data: ")) for line in whole.split(b"\n") if line.startswith(b"data: ")]
