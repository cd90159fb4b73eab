"""The composition root: make the application from the settings."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Security, params
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.answers import Answers, Policy
from service.config import Settings
from service.error_codes import response_codes, upstream_reasons
from service.eventlog import Retention, open_event_log
from service.http_errors import door_form, use_error_form
from service.keys import Keys
from service.logging import log_loop_errors
from service.middleware import Gate, RequestLine
from service.producer import Limits
from service.recovery import BREAKS
from service.renderings import NAMES
from service.routes import ag_ui, answers, chat, generate, health, limits, models, responses, streams, ui
from service.routes.application import Application, PlainRoute
from service.routes.body import Bodies
from service.routes.openapi import describe
from service.supervisor import Bounds, Supervisor
from service.telemetry import metrics, own_slot, sending
from service.tls import ClientCertificate
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.stream import Upstream

_DOORS = ("/v1", "/api", "/ag-ui")
"""The addresses of the doors, and all addresses below them."""

_ROUTES: Sequence[tuple[Callable[[Sequence[params.Depends]], list[PlainRoute]], frozenset[str]]] = (
    (chat.routes, frozenset({"chat"})),
    (responses.routes, frozenset({"responses"})),
    (streams.routes, frozenset({"streams"})),
    (ag_ui.routes, frozenset({"ag-ui"})),
    (ui.routes, frozenset({"ui"})),
    (models.routes, frozenset({"chat", "responses"})),
)
"""The doors' routes, each with the names in `FOLYAM_APIS` of which one opens them."""

_HEADERS_OF_SDKS = (
    "Idempotency-Key",
    "OpenAI-Beta",
    "OpenAI-Organization",
    "OpenAI-Project",
    "User-Agent",
    *(
        f"X-Stainless-{name}"
        for name in (
            "Arch",
            "Async",
            "Custom-Poll-Interval",
            "Helper-Method",
            "Lang",
            "OS",
            "Package-Version",
            "Poll-Helper",
            "Raw-Response",
            "Retry-Count",
            "Runtime",
            "Runtime-Version",
            "Timeout",
        )
    ),
)
"""Headers that a page's SDK sends, and that a browser asks leave for."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application. Its parts live from the start of its event loop to the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log_loop_errors(asyncio.get_running_loop())
        metrics.begin(
            settings.allowed_models,
            NAMES,
            error_codes=response_codes(),
            upstream_reasons=upstream_reasons(),
            break_reasons=BREAKS,
        )
        metrics.bounds(
            streams=settings.max_answers, followers=settings.max_followers, log_bytes=settings.retention_bytes
        )
        try:
            async with open_answers(settings) as app.state.answers:
                own_slot.serve()
                yield
        finally:
            await sending.aclose()
            own_slot.leave()

    # Only for the OpenAPI description: the middleware checks the key.
    key = [Security(HTTPBearer(auto_error=False))] if settings.keys else []
    app = Application(
        [*generate.routes(key), *answers.routes(key), *limits.routes(key), *_routes_of_doors(settings, key)],
        title="Folyam",
        version=__version__,
        lifespan=lifespan,
        middleware=_middleware(settings),
        redirect_slashes=False,  # An address with another slash at its end is unknown.
        # FastAPI's spans hold addresses and its logs exception messages. Either may quote a query.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.settings = settings
    app.state.bodies = Bodies(settings.max_bodies_bytes)
    for prefix in _DOORS:
        use_error_form(app, prefix, door_form)
    app.include_router(health.router)
    describe(app, settings)
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    """Return what each request passes through, the outermost first."""
    middleware = [Middleware(RequestLine)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", *_HEADERS_OF_SDKS],
                expose_headers=[
                    "Location",
                    "Retry-After",
                    "X-Answer-Id",
                    "X-Request-Id",
                    "X-Should-Retry",
                    *streams.EXPOSED_HEADERS,
                ],
            )
        )
    middleware.append(
        Middleware(
            Gate,
            keys=Keys(settings.keys),
            most_bytes=settings.max_body_bytes,
            doors=_DOORS,
            most_door_bytes=settings.max_api_body_bytes,
        )
    )
    return middleware


def _routes_of_doors(settings: Settings, dependencies: Sequence[params.Depends]) -> list[PlainRoute]:
    return [route for routes, doors in _ROUTES if not doors.isdisjoint(settings.apis) for route in routes(dependencies)]


@asynccontextmanager
async def open_answers(settings: Settings) -> AsyncIterator[Answers]:
    """Compose a worker's `Answers` on its event loop; close all parts at the end."""
    async with AsyncExitStack() as stack:
        log = open_event_log(
            settings.log_url,
            Retention(settings.retention_seconds, settings.retention_answers, settings.retention_bytes),
        )
        stack.push_async_callback(log.aclose)
        time_outs = TimeOuts(
            settings.connect_seconds, settings.status_seconds, settings.first_chunk_seconds, settings.silence_seconds
        )
        upstream = Upstream(endpoints(settings), time_outs, retries=settings.retries)
        stack.push_async_callback(upstream.aclose)
        supervisor = Supervisor(
            log,
            upstream,
            Limits(settings.answer_seconds, settings.max_answer_bytes, settings.unwatched_seconds),
            Bounds(settings.max_answers, settings.max_answers_per_client),
            recovery=settings.recovery,
            models=settings.allowed_models,
        )
        policy = Policy(
            settings.max_followers,
            settings.heartbeat_seconds,
            settings.status_wait_seconds,
            settings.drain_seconds,
            settings.unwatched_seconds,
        )
        answers = Answers(log, supervisor, policy)
        stack.push_async_callback(answers.aclose)
        yield answers


def endpoints(settings: Settings) -> list[Endpoint]:
    """Return the upstreams in the order in which they are asked."""
    first = Endpoint(
        base_url=settings.openai_base_url,
        # The openai package requires a key; a local server accepts any.
        api_key=settings.openai_api_key.get_secret_value() or "none",
        headers=_headers(settings),
        kind=settings.upstream,
        continuation=settings.continuation,
        system_prompt=settings.system_prompt,
        think_tags=settings.think_tags,
        certificate=client_certificate(settings),
    )
    if not settings.fallback_base_url:
        return [first]
    fallback = Endpoint(
        base_url=settings.fallback_base_url,
        api_key=settings.fallback_api_key.get_secret_value() or "none",
        model=settings.fallback_model,
        kind=settings.fallback_upstream,
        continuation=settings.fallback_continuation,
        system_prompt=settings.system_prompt,
        think_tags=settings.think_tags,
        role="fallback",
    )
    return [first, fallback]


def client_certificate(settings: Settings) -> ClientCertificate | None:
    """Return the client certificate for the first upstream. The fallback, which may be another's, is shown none."""
    if settings.upstream_certificate is None:
        return None
    return ClientCertificate(settings.upstream_certificate, settings.upstream_certificate_key)


def _headers(settings: Settings) -> tuple[tuple[str, str], ...]:
    # For the first endpoint only: they may hold a credential, or name an account that the fallback does not know.
    payers = (("OpenAI-Organization", settings.openai_org_id), ("OpenAI-Project", settings.openai_project_id))
    return (*(header for header in payers if header[1]), *settings.openai_custom_headers)
