"""The composition root: the settings in, the application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from service import __version__
from service.config import Settings
from service.core import Core
from service.http_errors import HANDLERS
from service.middleware import BodyLimit, RequestLine
from service.routes import answers, generate, operations


def create_app(settings: Settings) -> FastAPI:
    """Return the application; what it is made of lives from its event loop's start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.core = core = Core(settings)
        try:
            yield
        finally:
            await core.aclose()

    app = FastAPI(
        title="Folyam",
        version=__version__,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        middleware=[  # the outermost first
            Middleware(RequestLine),
            Middleware(BodyLimit, most_bytes=settings.max_body_bytes),
        ],
        telemetry={"tracing": False, "metrics": False},
    )
    app.include_router(generate.router)
    app.include_router(answers.router)
    app.include_router(operations.router)
    return app
