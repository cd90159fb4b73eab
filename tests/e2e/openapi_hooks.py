"""Schemathesis hooks for this API: JSON lines, the renderings, and ids of existing answers."""

import itertools
import json
import os
import re
import urllib.request
import uuid
from typing import Any

import schemathesis

from service.events import decode, parse_event_id
from service.renderings import MEDIA_TYPES
from service.routes.openapi import ANSWER_ID
from service.routes.sameness import IDEMPOTENCY_KEY

URL = "FOLYAM_TEST_URL"
KEY = "FOLYAM_TEST_KEY"
"""Environment variables: the address of the service under test, and a valid key."""

COMPLETION_ID = ANSWER_ID.replace("^", "^chatcmpl-")

ACCEPTED = itertools.cycle([*MEDIA_TYPES, "*/*"])
THERE = itertools.cycle([True, True, False])


@schemathesis.deserializer("application/json", "application/x-ndjson")
def lines(_context: object, response: schemathesis.Response) -> Any:  # noqa: ANN401 (JSON)
    """Decode one JSON object, or JSON lines, of which the last is returned."""
    try:
        return json.loads(response.content)
    except ValueError:
        whole = [line for line in response.content.split(b"\n") if line]
        for line in whole:
            decode(line)
        return json.loads(whole[-1])


@schemathesis.hook
def before_call(_context: object, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Use each rendering in turn, mostly the id of an existing answer (random ids are never found), and new keys."""
    case.headers["Accept"] = next(ACCEPTED)
    if re.fullmatch(IDEMPOTENCY_KEY["schema"]["pattern"], case.headers.get("Idempotency-Key") or ""):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex  # The same one with another request is refused.
    if re.fullmatch(COMPLETION_ID, str(case.path_parameters.get("completion_id"))) and next(THERE):
        case.path_parameters["completion_id"] = f"chatcmpl-{new_answer()}"
    named = case.path_parameters.get("answer_id")
    if isinstance(named, str) and re.fullmatch(ANSWER_ID, named):
        answer = case.path_parameters["answer_id"] = new_answer() if next(THERE) else named
        event_id = parse_event_id(case.headers.get("Last-Event-ID") or "")
        if event_id is not None:
            case.headers["Last-Event-ID"] = f"{answer}:{event_id[1]}"
    if case.query.get("live") and "offset" not in case.query:
        case.query["offset"] = "-1"  # Which OpenAPI cannot say.

    if "response_id" in case.path_parameters and next(THERE):
        case.path_parameters["response_id"] = f"resp_{new_answer()}"


def new_answer() -> str:
    """Return the id of an answer that has ended."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ[KEY]}"}
    request = urllib.request.Request(f"{os.environ[URL]}/generate", b'{"query": "x"}', headers)  # noqa: S310 (ours)
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
        response.read()
        return str(response.headers["X-Answer-Id"])
