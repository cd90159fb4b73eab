"""FastAPI's application, with routes that are called without its work for each request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request and returns the response. FastAPI describes it, `Application` calls it.

    FastAPI's parameters, dependencies, and check and encoding of a response took 350 thousand instructions of each
    answer. An endpoint that reads the request and the body itself has no use for them.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        **described: Any,  # noqa: ANN401 (`APIRoute`'s)
    ) -> None:
        super().__init__(path, endpoint, response_class=Response, **described)
        self.respond = endpoint


class Application(FastAPI):
    """FastAPI's application, whose only middleware is its `middleware`, and whose plain routes are called directly.

    By default, FastAPI and Starlette add layers of their own to each request. Two turn exceptions into responses, which
    is `service.middleware.Gate`'s work here. The others serve what is not used here.
    """

    def __init__(self, plain_routes: Sequence[PlainRoute], **more: Any) -> None:  # noqa: ANN401 (`FastAPI`'s)
        super().__init__(**more)
        self._plain_routes = plain_routes
        self.router.routes[:0] = plain_routes  # for the description, and for the methods of an address

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers of each request. Starlette calls this once."""
        # Routes that FastAPI handles need the exit stack.
        app: ASGIApp = _Routes(self._plain_routes, AsyncExitStackMiddleware(self.router))
        for middleware, arguments, named in reversed(self.user_middleware):
            app = middleware(app, *arguments, **named)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


class _Routes:
    """Calls the plain route of a request. FastAPI's router serves all others."""

    def __init__(self, routes: Sequence[PlainRoute], others: ASGIApp) -> None:
        self._routes = routes
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    response = await route.respond(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._others(scope, receive, send)
