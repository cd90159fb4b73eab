"""Parse the time after which an upstream may be asked again. Pure, except for the clock.

Servers name it in many forms: `Retry-After` in seconds, in fractions of one (against RFC 9110), or as a date;
`retry-after-ms` (OpenAI, Azure); the reset of an exhausted limit (`x-ratelimit-reset-requests: 6m0s` of OpenAI and
Groq, `X-RateLimit-Reset` of OpenRouter with Unix time in milliseconds, `RateLimit-Reset` of the IETF's drafts);
`retryDelay` in the body (Gemini).
"""

import math
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

LONGEST_SECONDS = 3600
"""Upper bound. A longer time is often a fault, such as Unix time in place of seconds, and a limit may be raised."""
_SHORTEST_SECONDS = 1
"""Lower bound. With 0, clients would ask again without a pause."""
_UNIX_TIME_SECONDS = 10**8
"""A number from here on (three years) is Unix time, in seconds."""
_UNIX_TIME_MILLISECONDS = 10**11
"""A number from here on is Unix time, in milliseconds."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_DURATION = re.compile(
    r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9]{1,6}(?:\.[0-9]{1,15})?)s)?"
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,15})?)ms)?",
    re.ASCII,
)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_RESET = re.compile(r"((?:x-)?ratelimit-)reset(-[a-z0-9-]+)?", re.ASCII)
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"([0-9]{1,9}(?:\.[0-9]{1,15})?)s"')


def retry_after(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> str | None:
    """Return in how many seconds the upstream may be asked again, 1 to LONGEST_SECONDS; None if it does not say.

    A date becomes seconds, because the client's clock may be wrong. A part of a second is rounded up.
    """
    given = {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in headers}
    seconds = _named(given)
    if seconds is None and status == HTTPStatus.TOO_MANY_REQUESTS:
        # Other responses state these limits, too. They do not say when the fault will be over.
        seconds = _reset(given)
    if seconds is None and (delay := _RETRY_DELAY.search(body)):
        seconds = float(delay[1])
    return None if seconds is None else str(min(max(math.ceil(seconds), _SHORTEST_SECONDS), LONGEST_SECONDS))


def _named(given: dict[str, str]) -> float | None:
    """Return the seconds of `retry-after-ms` or `Retry-After`."""
    milliseconds = given.get("retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    text = given.get("retry-after", "")
    if _NUMBER.fullmatch(text):
        return _from_number(text)
    try:
        return _until(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _reset(given: dict[str, str]) -> float | None:
    """Return the longest time until an exhausted limit is reset. A limit with something remaining is not the cause."""
    times: list[float] = []
    for name, value in given.items():
        if (
            (reset := _RESET.fullmatch(name))
            and _is_exhausted(given.get(f"{reset[1]}remaining{reset[2] or ''}"))
            and (seconds := _from_any(value)) is not None
        ):
            times.append(seconds)
    return max(times, default=None)


def _is_exhausted(remaining: str | None) -> bool:
    return remaining is None or (_NUMBER.fullmatch(remaining) is not None and float(remaining) == 0)


def _from_any(text: str) -> float | None:
    """Return the seconds of a number, of a duration such as `2m59.56s` or `20ms`, or until a date of RFC 3339."""
    if _NUMBER.fullmatch(text):
        return _from_number(text)
    if text and (parts := _DURATION.fullmatch(text)):
        return sum(float(part) * unit for part, unit in zip(parts.groups(), _UNITS, strict=True) if part)
    try:
        return _until(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _from_number(text: str) -> float:
    number = float(text)
    if number >= _UNIX_TIME_MILLISECONDS:
        return number / 1000 - time.time()
    return number - time.time() if number >= _UNIX_TIME_SECONDS else number


def _until(date: datetime) -> float:
    # HTTP's dates are UTC. A date of the old form has no zone and would be parsed in the machine's.
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
