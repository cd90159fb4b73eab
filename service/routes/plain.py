"""Routes without FastAPI's work for each request: parameters, dependencies, the check and encoding of a response."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response


class PlainRoute(APIRoute):
    """A route whose endpoint takes the request and returns the response. FastAPI describes it, Starlette calls it.

    FastAPI's handling took 350 thousand instructions of each answer, and an endpoint that reads the request and the
    body itself has no use for it.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        **described: Any,  # noqa: ANN401 (`APIRoute`'s)
    ) -> None:
        super().__init__(path, endpoint, response_class=Response, **described)
        self.app = request_response(endpoint)
