"""`/ag-ui`: an agent for AG-UI's clients. Each run is an answer, which can be followed on behind any of its events."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response, params
from msgspec import Raw
from pydantic import BaseModel

from service.config import Settings
from service.errors import BadInput
from service.renderings.ag_ui import DOOR, AgUi
from service.request import Request as Asked
from service.request import Via
from service.routes.ag_ui_messages import conversation, surroundings, tools
from service.routes.application import PlainRoute
from service.routes.body import value_of
from service.routes.door import (
    check_model,
    check_roles,
    check_temperature,
    gone,
    read_request,
    stream_answer,
    stream_existing,
)
from service.routes.openapi import LAST_EVENT_ID, errors, event_stream, whole
from service.routes.raw_json import bad, is_given
from service.routes.sameness import IDEMPOTENCY_KEY
from service.routes.streaming import last_event_id


class Capabilities(BaseModel):
    """What the protocol calls `AgentCapabilities`, in its categories."""

    identity: dict[str, str]
    transport: dict[str, bool]
    tools: dict[str, bool]
    state: dict[str, bool]
    reasoning: dict[str, bool]
    humanInTheLoop: dict[str, bool]  # noqa: N815 (the protocol's name)


_CAPABILITIES = Capabilities(
    identity={"name": "Folyam", "type": "folyam"},
    transport={"streaming": True, "websocket": False, "resumable": True},
    tools={"supported": True, "clientProvided": True, "parallelCalls": True},
    state={"snapshots": False, "deltas": False, "memory": False, "persistentState": False},
    reasoning={"supported": True, "streaming": True, "encrypted": False},
    humanInTheLoop={"interrupts": False},
)
_TEXT = {"type": "string"}
_MESSAGE = {
    "type": "object",
    "properties": {"id": _TEXT, "role": {"enum": ["user"]}, "content": _TEXT},
    "required": ["role", "content"],
}
_TOOL = {"type": "object", "properties": {"name": _TEXT, "description": _TEXT}, "required": ["name"]}
_CONTEXT = {
    "type": "object",
    "properties": {"description": _TEXT, "value": _TEXT},
    "required": ["description", "value"],
}
_INPUT = {
    "description": "`RunAgentInput`, in part: docs/protocol.md. Parameters of chat completions stand in"
    " `forwardedProps`.",
    "type": "object",
    "properties": {
        "threadId": _TEXT,
        "runId": _TEXT,
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "tools": {"type": "array", "items": _TOOL},
        "context": {"type": "array", "items": _CONTEXT},
        "state": {},
    },
    "required": ["threadId", "runId", "messages"],
}
_BODY = {"content": {"application/json": {"schema": _INPUT}}, "required": True}


async def run(request: Request) -> Response:
    """Begin a run; or go on with one behind the event that Last-Event-ID names."""
    if (place := last_event_id(request)) is not None:
        answer_id, number = place
        return await stream_existing(request, answer_id, AgUi(after=number))
    fields = await read_request(request)
    if fields is None:
        return gone()
    return await stream_answer(request, _asked(fields, request.app.state.settings), AgUi())


async def capabilities(request: Request) -> Response:  # noqa: ARG001 (they are the same for all)
    """Tell what the agent can do."""
    return Response(
        _CAPABILITIES.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _asked(fields: dict[str, Raw], settings: Settings) -> Asked:
    echo: dict[str, Any] = {name: value_of(fields, name, str, "Should be a string") for name in ("threadId", "runId")}
    for name in ("protocolVersion", "parentRunId"):
        if is_given(fields.get(name, Raw())):
            echo[name] = value_of(fields, name, str, "Should be a string")
    if "messages" not in fields:
        raise BadInput("invalid_input", "required", field="messages")
    if bytes(fields.get("resume", b"[]")) not in (b"[]", b"null"):
        bad("resume", "Should be left out: there are no interrupts")
    said = conversation(fields["messages"])
    check_roles(said.roles, settings)
    around = surroundings(
        fields.get("context", Raw()), fields.get("state", Raw()), allows_system=settings.allows_system
    )
    messages = said.messages if around is None else (around, *said.messages)
    parameters = _parameters(fields)
    check_temperature(parameters)
    model = check_model(parameters, settings, required=False)
    parameters.pop("model", None)
    if (given := tools(fields.get("tools", Raw()))) is not None:
        parameters["tools"] = given
    return Asked(model, messages, parameters, via=Via(DOOR, echo))


def _parameters(fields: dict[str, Raw]) -> dict[str, Raw]:
    """Return the parameters of chat completions, which stand in `forwardedProps`."""
    wanted = "Should be an object"
    return value_of(fields, "forwardedProps", dict[str, Raw] | None, wanted) or {}


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    return [
        PlainRoute(
            "/ag-ui",
            run,
            methods=["POST"],
            operation_id="runAgent",
            responses=event_stream("The run's events, as they come.") | errors(401, 402, 403, 404, 422),
            openapi_extra={"parameters": [*LAST_EVENT_ID["parameters"], IDEMPOTENCY_KEY], "requestBody": _BODY},
            dependencies=dependencies,
        ),
        PlainRoute(
            "/ag-ui/capabilities",
            capabilities,
            methods=["GET"],
            operation_id="agentCapabilities",
            responses=whole(Capabilities, "What the agent can do.") | errors(401),
            dependencies=dependencies,
        ),
    ]
