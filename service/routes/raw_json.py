"""Parts of a request that stay raw JSON: told apart by their first bytes, joined, counted where they may be many."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from service.errors import BadInput
from service.routes.counted import MOST_OBJECTS, begin, is_too_many

T = TypeVar("T")

_AT = re.compile(r" - at `\$((?:\.[A-Za-z]{1,20}|\[[0-9]{1,9}\]){1,8})`\Z")
"""The place in msgspec's message. The rest of the message may repeat a value that was sent."""
_MOST_AT = 200
_FORM = "Should have the form that the protocol describes"


def raw(value: Any) -> Raw:  # noqa: ANN401 (JSON)
    """Return the value as raw JSON."""
    return Raw(msgspec.json.encode(value))


def counting(
    decode: Callable[[Raw], T],
    value: Raw,
    field: str,
    wanted: str = _FORM,
    *,
    begins: bool = True,
) -> T:
    """Return the decoded value, which has at most MOST_OBJECTS objects that are `Counted`.

    `wanted` is what a client is told whose value is no such list. Unless `begins`, the objects of the values decoded
    before count, too, of the same turn of the event loop.

    Raises:
        BadInput: it has more, or is something else.
    """
    if begins:
        begin()
    try:
        return decode(value)
    except (ValueError, RecursionError) as error:
        if is_too_many():
            raise BadInput("too_many_messages", field=field, most=MOST_OBJECTS) from None
        at = _AT.search(str(error)[-_MOST_AT:])
        path = at[1].replace("[", ".").replace("]", "") if at else ""
        bad(f"{field}{path}", _FORM if path else wanted)


def bad(field: str, wanted: str) -> NoReturn:
    """Refuse a field of the request."""
    raise BadInput("invalid_input", "value", field=field, wanted=wanted)


def is_text(value: Raw) -> bool:
    """Return whether the JSON is a string."""
    return bytes(memoryview(value)[:1]) == b'"'


def is_given(value: Raw) -> bool:
    """Return whether there is JSON, and not null."""
    return len(memoryview(value)) > 0 and bytes(memoryview(value)[:1]) != b"n"


def text_of(value: Raw, field: str) -> Raw:
    """Return the JSON, which is a string.

    Raises:
        BadInput: it is not.
    """
    if not is_text(value):
        bad(field, "Should be a string")
    return value


def joined(texts: Iterable[Raw]) -> Raw:
    """Return JSON strings as one, without decoding them."""
    whole = list(texts)
    return whole[0] if len(whole) == 1 else Raw(b'"%b"' % b"".join([bytes(text)[1:-1] for text in whole]))


def as_text(value: Raw) -> Raw:
    """Return the JSON as a JSON string: itself if it is one."""
    return value if is_text(value) else raw(bytes(value).decode())


def given(**fields: object) -> dict[str, Any]:
    """Return the fields without those that are missing or null."""
    return {
        name: value
        for name, value in fields.items()
        if (is_given(value) if isinstance(value, Raw) else value is not None)
    }
