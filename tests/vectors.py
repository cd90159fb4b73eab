"""The protocol's test vectors: docs/protocol/*.json. docs/protocol.md says what each file holds."""

import json
from pathlib import Path
from typing import Any

import msgspec

from service.events import Event

DIRECTORY = Path(__file__).parents[1] / "docs" / "protocol"


def load(name: str) -> Any:  # noqa: ANN401 (each file has a shape of its own)
    """The content of one file."""
    return json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))


def events_of(written: list[dict[str, Any]]) -> list[Event]:
    """The events of a vector, with its long texts written out."""
    return msgspec.convert([written_out(each) for each in written], list[Event])


def written_out(event: dict[str, Any]) -> dict[str, Any]:
    """An event with its long texts written out."""
    texts = ("text", "reasoning", "refusal", "arguments")
    return {
        field: whole(value) if field in texts else written_out(value) if field == "tool_call" else value
        for field, value in event.items()
    }


def whole(text: object) -> str:
    """A text, which long vectors put as `{"repeat": "x", "times": 9}` or as a list of parts."""
    match text:
        case str():
            return text
        case {"repeat": str(part), "times": int(times)}:
            return part * times
        case list():
            return "".join(map(whole, text))
        case _:
            raise TypeError(text)
