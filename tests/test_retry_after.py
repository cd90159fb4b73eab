"""The time after which an upstream may be asked again, in each form that servers write it in."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from service.upstream.retry_after import LONGEST_SECONDS, retry_after
from tests.waiting import DEADLINE_SECONDS

DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""The three forms of RFC 9110, 5.6.7."""


def told(given: str, name: str = "Retry-After", status: int = 429, body: bytes = b"") -> str | None:
    return retry_after(status, [(b"Server", b"x"), (name.encode(), given.encode("latin-1"))], body)


def limits(**given: str) -> str | None:
    """The time of a 429 with these headers."""
    return retry_after(429, [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()], b"")


@pytest.fixture(params=["UTC", "Asia/Tokyo"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in this time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", "7"), (" 7 ", "7"), ("1.5", "2"), ("0.01", "1"), ("3.0", "3"), ("007", "7"), ("59.0000001", "60")],
)
def test_a_part_of_a_second_is_rounded_up(given: str, seconds: str) -> None:
    assert told(given) == seconds


@pytest.mark.parametrize("given", ["0", "0.0", "00", "Wed, 21 Oct 2015 07:28:00 GMT", "1000000000"])
def test_a_time_that_is_now_or_past_is_a_second(given: str) -> None:
    assert told(given) == "1"


@pytest.mark.parametrize("given", ["3601", "86400", "99999999", "9" * 15, "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_time_is_capped(given: str) -> None:
    assert told(given) == str(LONGEST_SECONDS)


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("form", DATES)
def test_a_date_is_told_in_seconds(form: str) -> None:
    seconds = told(time.strftime(form, time.gmtime(time.time() + 1000)))
    assert seconds is not None
    assert 1000 - DEADLINE_SECONDS < int(seconds) <= 1000


@pytest.mark.parametrize("given", [lambda now: f"{now + 500:.0f}", lambda now: f"{(now + 500) * 1000:.0f}"])
@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset", "RateLimit-Reset"])
def test_unix_time_is_told_in_seconds(given: object, name: str) -> None:
    assert callable(given)
    seconds = told(given(time.time()), name)
    assert seconds is not None
    assert 500 - DEADLINE_SECONDS < int(seconds) <= 501


@pytest.mark.parametrize(
    "given",
    [
        "s\xf6on", "\u20ac".encode().decode("latin-1"), "x" * 1000, "",
        "-1", "1e3", "inf", "1" * 16, "1.", ".5", "1,5", "5 s", "5s", "1_0", "\u0661".encode().decode("latin-1"),
        "Wed, 99 Oct 2035 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT",
    ],
)  # fmt: skip
def test_what_names_no_time_is_left_out(given: str) -> None:
    assert told(given) is None


def test_a_response_without_a_time_names_none() -> None:
    assert retry_after(429, [], b"") is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_the_status_does_not_matter(status: int) -> None:
    assert told("1.5", status=status) == "2"
    assert told("1", "retry-after-ms", status) == "1"


@pytest.mark.parametrize(
    ("given", "seconds"), [("20", "1"), ("1000", "1"), ("1001", "2"), ("32500", "33"), ("0", "1"), ("250.5", "1")]
)
def test_milliseconds_are_told_in_seconds(given: str, seconds: str) -> None:
    assert told(given, "retry-after-ms") == seconds


def test_milliseconds_are_preferred_and_the_header_is_read_where_they_cannot_be() -> None:
    assert limits(retry_after_ms="1200", retry_after="7") == "2"
    assert limits(retry_after_ms="soon", retry_after="7") == "7"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1s", "1"), ("20ms", "1"), ("6m0s", "360"), ("2m59.56s", "180"), ("7.66s", "8"), ("1h2m3s", "3600"),
        ("1s500ms", "2"), ("1m", "60"), ("30", "30"), ("11.38", "12"), ("1d", "3600"), ("0s", "1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "X-RateLimit-Reset"])
def test_the_reset_of_a_limit_is_a_time(given: str, seconds: str, name: str) -> None:
    assert told(given, name) == seconds


@pytest.mark.parametrize("given", ["", "s", "soon", "1x", "1s1h", "-5s", "2026-13-01T00:00:00Z"])
def test_a_reset_that_cannot_be_read_names_no_time(given: str) -> None:
    assert told(given, "x-ratelimit-reset-tokens") is None


def test_a_reset_may_be_a_date() -> None:
    seconds = told(datetime.fromtimestamp(time.time() + 500, UTC).isoformat(), "x-ratelimit-reset-tokens")
    assert seconds is not None
    assert 500 - DEADLINE_SECONDS < int(seconds) <= 501


def test_the_longest_reset_of_an_exhausted_limit_counts() -> None:
    both = {"x_ratelimit_reset_requests": "12ms", "x_ratelimit_reset_tokens": "6m0s"}
    assert limits(**both) == "360"
    assert limits(**both, x_ratelimit_remaining_requests="0", x_ratelimit_remaining_tokens="99") == "1"
    assert limits(**both, x_ratelimit_remaining_requests="5", x_ratelimit_remaining_tokens="99") is None
    assert limits(**both, retry_after="3") == "3"


def test_a_reset_says_nothing_of_another_failure() -> None:
    assert told("6m0s", "x-ratelimit-reset-tokens", status=503) is None


@pytest.mark.parametrize(("given", "seconds"), [("34.074824224s", "35"), ("3s", "3"), ("34", None), ("x", None)])
def test_a_body_may_have_a_time(given: str, seconds: str | None) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": given}
    body = json.dumps([{"error": {"code": 429, "details": [info]}}])
    assert retry_after(429, [], body.encode()) == seconds
