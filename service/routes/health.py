"""The endpoints for operators: liveness, readiness and metrics. nginx does not pass `/metrics` on."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.answers import Answers
from service.routes.openapi import errors, whole
from service.telemetry.exposition import CONTENT_TYPE, exposition


class Status(BaseModel):
    """The body of a successful probe."""

    status: Literal["ok"]


RESPONSES = whole(Status, "The probe succeeded.") | errors()
NOT_KEPT = {"Cache-Control": "no-store"}

router = APIRouter()


@router.get("/livez", operation_id="livez", response_class=JSONResponse, responses=RESPONSES)
async def livez() -> JSONResponse:
    """Liveness: respond as long as the event loop serves requests."""
    return JSONResponse({"status": "ok"}, headers=NOT_KEPT)


@router.get("/readyz", operation_id="readyz", response_class=JSONResponse, responses=RESPONSES)
async def readyz(request: Request) -> JSONResponse:
    """Readiness: 200 while the log is usable and the worker is not draining; else 503."""
    answers: Answers = request.app.state.answers
    await answers.check()
    return JSONResponse({"status": "ok"}, headers=NOT_KEPT)


@router.get("/metrics", include_in_schema=False)
def prometheus_metrics() -> Response:
    """Return the metrics of all workers. Not async: collecting them takes tens of milliseconds, so a thread does it."""
    return Response(exposition(), media_type=CONTENT_TYPE)
