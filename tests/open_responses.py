"""The schemas of the Responses API: those of Open Responses, and those of OpenAI's SDK."""

from typing import Any

import openresponses_types.types as schemas
from openai._models import validate_type
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

Json = dict[str, Any]


def _type_of(model: type[BaseModel]) -> str:
    kind: Any = model.model_fields["type"].annotation  # an enumeration with one member
    return str(next(iter(kind)))


EVENTS = {_type_of(model): model for name, model in vars(schemas).items() if name.endswith("StreamingEvent")}
"""The schema of each event by its type."""


def check_response(response: Json) -> None:
    """Raise a `ValidationError` unless the response object is valid in both."""
    schemas.ResponseResource.model_validate(_readable(response))
    validate_type(type_=Response, value=response)


def check_event(event: Json) -> None:
    """Raise a `ValidationError` unless the event of a stream is valid in both."""
    shown = {**event, "response": _readable(event["response"])} if "response" in event else event
    EVENTS[event["type"]].model_validate(shown)
    any_event: Any = ResponseStreamEvent
    validate_type(type_=any_event, value=event)


def _readable(response: Json) -> Json:
    """Return the response with null for its text's JSON schema: these types demand it, and SDKs demand the schema."""
    wanted = response["text"]["format"]
    if wanted["type"] != "json_schema":
        return response
    return {**response, "text": {**response["text"], "format": {**wanted, "schema": None}}}
