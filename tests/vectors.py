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
    texts = ("text", "reasoning", "refusal")
    full = [{field: whole(value) if field in texts else value for field, value in each.items()} for each in written]
    return msgspec.convert(full, list[Event])


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
