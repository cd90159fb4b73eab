"""For whoever runs the service: is it alive, does it want requests, what has it counted."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service import metrics
from service.core import Core
from service.errors import Unavailable

router = APIRouter()


@router.get("/livez")
async def livez() -> JSONResponse:
    """Say that the process serves requests."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Say whether new requests should come here: the log is reachable, and the worker is not about to leave."""
    core: Core = request.app.state.core
    if core.leaving:
        raise Unavailable("draining", "This worker is leaving.")
    await core.log.check()
    return JSONResponse({"status": "ok"})


@router.get("/metrics", include_in_schema=False)
def prometheus_metrics() -> Response:
    """Return all workers' metrics. Not async: gathering them takes tens of milliseconds, which a thread may take."""
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)
