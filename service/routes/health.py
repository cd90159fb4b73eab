"""For whoever runs the service: is it alive, does it want requests, what has it counted."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.answers import Answers
from service.routes.openapi import errors, whole
from service.telemetry.exposition import CONTENT_TYPE, exposition


class Status(BaseModel):
    """Said by those who are well."""

    status: Literal["ok"]


RESPONSES = whole(Status, "It is.") | errors()
NOT_KEPT = {"Cache-Control": "no-store"}

router = APIRouter()


@router.get("/livez", operation_id="livez", response_class=JSONResponse, responses=RESPONSES)
async def livez() -> JSONResponse:
    """Say that the process serves requests."""
    return JSONResponse({"status": "ok"}, headers=NOT_KEPT)


@router.get("/readyz", operation_id="readyz", response_class=JSONResponse, responses=RESPONSES)
async def readyz(request: Request) -> JSONResponse:
    """Say whether new requests should come here: the log is reachable, and the worker is not about to leave."""
    answers: Answers = request.app.state.answers
    await answers.check()
    return JSONResponse({"status": "ok"}, headers=NOT_KEPT)


@router.get("/metrics", include_in_schema=False)
def prometheus_metrics() -> Response:
    """Return all workers' metrics. Not async: gathering them takes tens of milliseconds, which a thread may take."""
    return Response(exposition(), media_type=CONTENT_TYPE)
