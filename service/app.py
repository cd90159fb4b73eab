"""The composition root: the settings in, the application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service import __version__, metrics, tracing
from service.config import Settings
from service.core import Core
from service.http_errors import HANDLERS
from service.logging import log_loop_errors
from service.middleware import BodyLimit, RequestLine
from service.routes import answers, generate, operations


def create_app(settings: Settings) -> FastAPI:
    """Return the application; what it is made of lives from its event loop's start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log_loop_errors(asyncio.get_running_loop())
        app.state.core = core = Core(settings)
        try:
            yield
        finally:
            await core.aclose()
            await tracing.aclose()
            metrics.leave()

    middleware = [  # the outermost first
        Middleware(RequestLine),
        Middleware(BodyLimit, most_bytes=settings.max_body_bytes),
    ]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
                expose_headers=["Location", "Retry-After", "X-Answer-Id", "X-Request-Id"],
            )
        )
    app = FastAPI(
        title="Folyam",
        version=__version__,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        middleware=middleware,
        telemetry={"tracing": False, "metrics": False},
    )
    app.include_router(generate.router)
    app.include_router(answers.router)
    app.include_router(operations.router)
    return app
