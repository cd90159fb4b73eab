"""The composition root: the settings in, the application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.config import Settings
from service.core import Core
from service.http_errors import HANDLERS
from service.keys import Keys
from service.logging import log_loop_errors
from service.middleware import BodyLimit, KeyCheck, ParameterLimit, RequestLine
from service.routes import answers, generate, health
from service.routes.openapi import describe
from service.telemetry import metrics, tracing


def create_app(settings: Settings) -> FastAPI:
    """Return the application; what it is made of lives from its event loop's start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log_loop_errors(asyncio.get_running_loop())
        app.state.core = core = Core(settings)
        metrics.serve()
        try:
            yield
        finally:
            await core.aclose()
            await tracing.aclose()
            metrics.leave()

    middleware = [Middleware(RequestLine)]  # the outermost first
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
    middleware += [
        Middleware(KeyCheck, keys=Keys(settings.keys)),
        Middleware(ParameterLimit),
        Middleware(BodyLimit, most_bytes=settings.max_body_bytes),
    ]
    app = FastAPI(
        title="Folyam",
        version=__version__,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        middleware=middleware,
        redirect_slashes=False,  # An address has one form; another is none of ours.
        telemetry={"tracing": False, "metrics": False},
    )
    # The middleware has looked at the key before: this says in the description that one is needed.
    key = [Security(HTTPBearer(auto_error=False))] if settings.keys else []
    app.include_router(generate.router, dependencies=key)
    app.include_router(answers.router, dependencies=key)
    app.include_router(health.router)
    describe(app, settings)
    return app
