"""`/limits`: what a question may be, for pages that ask it."""

from collections.abc import Sequence

from fastapi import Request, Response, params
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.config import Settings
from service.routes.application import PlainRoute
from service.routes.openapi import errors, whole


class Limits(BaseModel):
    """The limits on a question to `/generate`."""

    models: list[str]
    """The models that it may name. The first one is asked if it names none."""
    query_characters: int
    history_turns: int
    body_bytes: int
    system: bool
    """Whether the history's first turn may be the system's."""


async def read_limits(request: Request) -> Response:
    """Return the limits on a question: its models, its length, and the length of its history."""
    settings: Settings = request.app.state.settings
    limits = Limits(
        models=list(settings.allowed_models),
        query_characters=settings.max_query_characters,
        history_turns=settings.max_history_turns,
        body_bytes=settings.max_body_bytes,
        system=settings.allows_system,
    )
    return JSONResponse(limits.model_dump(), headers={"Cache-Control": "no-store"})


def routes(dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    """Return the routes. The dependencies are for their description."""
    return [
        PlainRoute(
            "/limits",
            read_limits,
            methods=["GET"],
            operation_id="readLimits",
            responses=whole(Limits, "The limits.") | errors(401),
            dependencies=dependencies,
        ),
    ]
