"""Types of text settings, with their validators. An error message states the valid form and never shows the value."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, HttpUrl, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

API_KEY = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)
"""The token syntax of RFC 6750 (`Authorization: Bearer …`), of a length that rules out brute force."""
_API_ADDRESS = re.compile(r"https?://[^/\\?#@\s\x00-\x1f\x7f]+(/[^\\?#\s\x00-\x1f\x7f]*)?", re.IGNORECASE)
"""A host and a path. No query, behind which no path can follow, and no user name, which would replace the key."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
"""Printable ASCII. HTTP also allows other bytes except line ends, but servers disagree about their meaning."""
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+")
"""The form that browsers send: in lower case, and with nothing behind the host and the port."""

_http_url = TypeAdapter(HttpUrl)


def _api_address(text: str) -> str:
    text = text.strip()
    try:
        url = _http_url.validate_python(text) if _API_ADDRESS.fullmatch(text) else None
    except ValidationError:
        url = None
    if url is None or not url.port:
        raise PydanticCustomError(
            "api_address",
            "Should be an address such as https://api.openai.com/v1: http or https, a host, perhaps a port and a path,"
            " and no user, password, query or fragment",
        )
    return str(url)


def _header_value(text: str) -> str:
    text = text.strip()
    if not _HEADER_VALUE.fullmatch(text):
        raise PydanticCustomError("header_value", "Should be one line of printable ASCII characters")
    return text


def _header_lines(value: object) -> object:
    if not isinstance(value, str):
        return value
    headers = []
    for line in filter(str.strip, value.split("\n")):
        name, colon, text = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name.strip()):
            raise PydanticCustomError("headers", "Should be one header a line, such as X-Team: rivers")
        headers.append((name.strip(), text))
    return tuple(headers)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # The environment is bytes. Python turns those that are not UTF-8 into surrogates.
        raise PydanticCustomError("text", "Should be UTF-8 text") from None
    return text


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise PydanticCustomError(
            "origin", "Each should be an origin such as https://example.org, in lower case and with no path"
        )
    return text


ApiAddress = Annotated[str, AfterValidator(_api_address)]
"""The base URL of an OpenAI-compatible API, up to `/v1`."""
HeaderValue = Annotated[str, AfterValidator(_header_value)]
"""The value of a request header. Surrounding white space is dropped: a file ends with a line end."""
HeaderSecret = Annotated[
    SecretStr, BeforeValidator(lambda value: _header_value(value) if isinstance(value, str) else value)
]
"""A `HeaderValue` that is secret and never shown."""
Headers = Annotated[tuple[tuple[str, HeaderValue], ...], BeforeValidator(_header_lines)]
"""Headers, one a line."""
Text = Annotated[str, AfterValidator(_text)]
"""A text that JSON can hold."""
Origin = Annotated[str, AfterValidator(_origin)]
"""The origin of another site's page."""
