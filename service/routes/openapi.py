"""The parts of the OpenAPI description that FastAPI cannot know: streams, errors, and the settings' limits.

docs/protocol.md is the same in prose. The service serves the description at `/openapi.json`, and nginx does not pass it
on.
"""

from http import HTTPStatus
from typing import Any, get_args

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel

from service.config import Settings
from service.events import SEQ_DIGITS, Event
from service.question import MAX_TOKENS, Question
from service.renderings import RENDERINGS
from service.renderings.durable_streams import OFFSET, DurableStream

EVENTS: tuple[type, ...] = get_args(Event)
PRIVATE = {"Start": ("request", "chat", "at", "owner", "via", "names", "request_bytes"), "Delta": ("run", "attempt")}
"""Fields of events that stay in the log."""

ANSWER_ID = "^[0-9a-f]{32}$"
EVENT_ID = {"pattern": "^[0-9a-f]{32}:(0|[1-9][0-9]{0,15})$", "minLength": 34, "maxLength": 49}

Described = dict[int | str, dict[str, Any]]


class ErrorDetails(BaseModel):
    """An error: its code for programs, a sentence for people, and the field to blame, if it is a single one."""

    message: str
    type: str
    param: str | None
    code: str
    field: str | None = None
    request_id: str


class Error(BaseModel):
    """The body of every error."""

    error: ErrorDetails


def _header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:  # noqa: ANN401 (JSON)
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_REQUEST_ID = {"X-Request-Id": _header("Names the request in the service's log.", pattern="^[A-Za-z0-9._-]{1,64}$")}
_NOT_KEPT = {"Cache-Control": _header("The response must not be cached.", const="no-store")}
_RETRY_AFTER = {"Retry-After": _header("Seconds to wait before a retry.", required=False)}
_FOLLOWING = {
    "X-Answer-Id": _header("The answer's id.", pattern=ANSWER_ID),
    "Location": _header("The address at which the answer can be followed, read, stopped and erased."),
    "X-Accel-Buffering": _header("Asks proxies not to buffer the response.", const="no"),
}

_WITH_ANSWER = _REQUEST_ID | _NOT_KEPT | _FOLLOWING

_ANYWHERE = (400, 408, 413, 414, 421, 429, 431, 500, 501, 502, 503, 504, 505)
"""Statuses that any address may respond with. Some come from nginx alone."""
_WITH_RETRY_AFTER = (429, 502, 503, 504)


_LINKS = {
    operation: {"operationId": operation, "parameters": {"answer_id": "$response.header.X-Answer-Id"}}
    for operation in ("readAnswer", "stopAnswer", "eraseAnswer")
}


def errors(*statuses: int) -> Described:
    """Return the description of these errors and of the errors of any address."""
    described: Described = {}
    for status in sorted({*_ANYWHERE, *statuses}):
        headers = _REQUEST_ID | _NOT_KEPT
        if status in _WITH_RETRY_AFTER:
            headers = headers | _RETRY_AFTER
        if status == HTTPStatus.UNAUTHORIZED:
            headers = headers | {"WWW-Authenticate": _header("The authentication scheme.")}
        described[status] = {"model": Error, "description": HTTPStatus(status).phrase, "headers": headers}
    return described


def whole(model: type[BaseModel], description: str) -> Described:
    """Return the description of a response that is one JSON object."""
    return {200: {"model": model, "description": description, "headers": _REQUEST_ID | _NOT_KEPT}}


def whole_object(schema: dict[str, Any], description: str) -> Described:
    """Return the description of a door's response that is an answer as a whole."""
    content = {"application/json": {"schema": schema}}
    return {200: {"description": description, "headers": _WITH_ANSWER, "content": content}}


def streamed_or_whole(schema: dict[str, Any], description: str) -> Described:
    """Return the description of a door's response: Server-Sent Events, or an answer as a whole in this schema."""
    described = whole_object(schema, description)
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    described[200]["content"]["text/event-stream"] = {"itemSchema": event}
    return described


def empty(description: str) -> Described:
    """Return the description of a 204."""
    return {204: {"description": description, "headers": _REQUEST_ID | _NOT_KEPT}}


def event_stream(description: str) -> Described:
    """Return the description of a door's response that is Server-Sent Events alone."""
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    content = {"text/event-stream": {"itemSchema": event}}
    return {200: {"description": description, "headers": _REQUEST_ID | _NOT_KEPT | _FOLLOWING, "content": content}}


def streamed(*also: type[BaseModel]) -> Described:
    """Return the description of a response that follows an answer: a stream in each rendering, or a 204."""
    headers = _REQUEST_ID | _NOT_KEPT | _FOLLOWING
    event = {"oneOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in EVENTS]}
    content = {media_type: rendering.description(event, EVENT_ID) for media_type, rendering in RENDERINGS.items()}
    content["application/json"]["schema"]["oneOf"] = [
        *event["oneOf"],
        *({"$ref": f"#/components/schemas/{model.__name__}"} for model in also),
    ]
    optional = {name: {**header, "required": False} for name, header in _FOLLOWING.items()}
    return {
        200: {
            "description": "The answer's events, as they come. `Accept` chooses the rendering.",
            "headers": _REQUEST_ID | _NOT_KEPT | optional if also else headers,
            "content": content,
            "links": {} if also else _LINKS,
        },
        204: {"description": "The answer has ended, and no event follows.", "headers": headers},
    }


_STREAM = {
    "X-Answer-Id": _header("The answer's id.", pattern=ANSWER_ID),
    "Cross-Origin-Resource-Policy": _header("Keeps other sites' pages from embedding it.", const="same-origin"),
    "Stream-Next-Offset": _header("The offset behind what was sent.", pattern=str(OFFSET["pattern"])),
    "Stream-Up-To-Date": _header("Whether the answer had nothing behind that.", required=False, const="true"),
    "Stream-Closed": _header("Whether the answer has ended there.", required=False, const="true"),
}
_CURSOR = {"Stream-Cursor": _header("To be sent as `cursor` with the next request.", pattern="^[0-9]+$")}
_TAGGED = {
    "ETag": _header("Names the portion.", required=False),
    "Cache-Control": _header("Only the client may keep it, and must ask whether it still holds."),
}


def durable_stream() -> Described:
    """Return the description of Durable Streams' GET."""
    headers = _REQUEST_ID | _STREAM
    event = {"oneOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in EVENTS]}
    optional = {name: {**header, "required": False} for name, header in (_STREAM | _CURSOR).items()}
    return {
        200: {
            "description": "The answer's events behind `offset`. With `live=sse`, as they come.",
            "headers": _REQUEST_ID | optional | _TAGGED,
            "content": {
                "application/json": {"schema": {"type": "array", "items": event}},
                "text/event-stream": DurableStream(0, "").description(event, EVENT_ID),
            },
        },
        204: {
            "description": "With `live=long-poll`: there is nothing behind `offset` yet, or no more.",
            "headers": headers | _CURSOR | _NOT_KEPT,
        },
        304: {"description": "The portion of the tag still holds.", "headers": headers | _CURSOR | _TAGGED},
    }


def durable_stream_head() -> Described:
    """Return the description of Durable Streams' HEAD."""
    return {200: {"description": "How far the answer is.", "headers": _REQUEST_ID | _STREAM | _NOT_KEPT}}


STREAM_ID = {
    "name": "answer_id",
    "in": "path",
    "required": True,
    "description": "An answer's id, as in X-Answer-Id.",
    "schema": {"type": "string", "pattern": ANSWER_ID},
}

STREAM_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "offset",
        "in": "query",
        "required": False,
        "description": "Where to begin: `-1` for the start, `now` for the end so far, or a Stream-Next-Offset. `live`"
        " needs it.",
        "schema": {"type": "string", "pattern": f"^(-1|now|[0-9]{{{SEQ_DIGITS}}})$"},
    },
    {
        "name": "live",
        "in": "query",
        "required": False,
        "description": "Wait for the next events, or follow the answer with Server-Sent Events.",
        "schema": {"enum": ["long-poll", "sse"]},
    },
    {
        "name": "cursor",
        "in": "query",
        "required": False,
        "description": "The last Stream-Cursor.",
        "schema": {"type": "string"},
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The ETag of an earlier response. Without `live` alone.",
        "schema": {"type": "string"},
    },
]


LAST_EVENT_ID: dict[str, Any] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "`<answer id>:<seq>`: resume behind that event. A request with it never begins an answer.",
            "schema": {"type": "string", **EVENT_ID},
        }
    ]
}


def describe(app: FastAPI, settings: Settings) -> None:
    """Add the events and the settings' limits to the app's description."""
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generated(), settings)
        return generated()

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation has it


def _complete(description: dict[str, Any], settings: Settings) -> None:
    schemas: dict[str, Any] = description["components"]["schemas"]
    _, events = msgspec.json.schema_components(EVENTS, ref_template="#/components/schemas/{name}")
    for name in ("Attempt", "GenerateRequest", "Request", "Run", "Turn", "Via"):
        del events[name]
    for kind, names in PRIVATE.items():
        for name in names:
            del events[kind]["properties"][name]
    _, asked = msgspec.json.schema_components([Question], ref_template="#/components/schemas/{name}")
    schemas |= events | asked

    properties = schemas["Question"]["properties"]
    properties["query"] |= {"maxLength": settings.max_query_characters, "minLength": 1, "pattern": r"\S"}
    properties["history"]["maxItems"] = settings.max_history_turns
    properties["model"]["anyOf"][0]["enum"] = list(settings.allowed_models)
    properties["max_tokens"]["anyOf"][0] = {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS}
    if not settings.allows_system:
        schemas["Turn"]["properties"]["role"]["enum"].remove("system")
    # Required for every question. A request with a Last-Event-ID needs no body, which OpenAPI cannot express.
    description["paths"]["/generate"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422, which no route here sends
        schemas.pop(name, None)
    for operations in description["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            for parameter in operation.get("parameters", ()):
                _describe_parameter(parameter, properties)


def _describe_parameter(parameter: dict[str, Any], properties: dict[str, Any]) -> None:
    schema = parameter["schema"]
    for alternative in schema.pop("anyOf", ()):
        if alternative != {"type": "null"}:  # A query string cannot hold a null.
            schema |= alternative
    match parameter["name"]:
        case "query":
            parameter["required"] = True
            schema |= {name: properties["query"][name] for name in ("maxLength", "minLength", "pattern")}
        case "model":
            schema["enum"] = properties["model"]["anyOf"][0]["enum"]
        case "max_tokens":
            schema["examples"] = [256]
        case "last_event_id":
            schema |= EVENT_ID
        case "answer_id":
            schema["pattern"] = ANSWER_ID
