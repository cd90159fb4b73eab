"""The client of an upstream that keeps its runs: an answer that was cut is followed again, and not paid for twice."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx2

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import Run
from service.request import Request
from service.upstream.body import Body, Decoder, Joint
from service.upstream.client import Client
from service.upstream.connection import BrokenConnectionError
from service.upstream.connector import ProxyRefusedError, ProxyUnreachableError
from service.upstream.endpoint import Endpoint, TimeOuts, path_of, request_to
from service.upstream.pool import ConnectTimeOutError, Pool, UnreachableError, start_of_body

STOP_SECONDS = 1.0
"""Time that a leaving worker waits for its stops to be sent."""

_LOST = (
    TimeoutError,
    ConnectTimeOutError,
    UnreachableError,
    ProxyUnreachableError,
    ProxyRefusedError,
    BrokenConnectionError,
)
"""Errors of a stop that was not taken. The answer has ended all the same."""


_NOT_ASKED = frozenset({"connect_timeout", "proxy_unreachable", "proxy_refused"})
"""The reasons of a failure before the request was sent."""


class RunRequest(NamedTuple):
    """A request about one run."""

    method: str
    path: str
    """Behind the upstream's base URL."""
    headers: Mapping[str, str] = {}
    """Headers in addition to those of each request to the endpoint."""


class RunKeeper(Client, ABC):
    """One endpoint with its connection pool. A kind of upstream says how its runs are begun, followed and stopped."""

    stop_pauses: tuple[float, ...] = ()
    """Seconds before each repetition of a stop that failed. None for an upstream that stops a run by itself, later."""

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        super().__init__(endpoint, time_outs)
        self._request = request_to(endpoint)
        self._base = str(self._request.url).removesuffix(path_of(endpoint))
        self._stopping: set[asyncio.Task[None]] = set()

    @abstractmethod
    def _following(self, known: Attached) -> RunRequest:
        """Return the request that follows a run again."""

    @abstractmethod
    def _decoder_of(self, request: Request, known: Attached, last_seq: int) -> Decoder:
        """Return the decoder of a run that is followed again. It leaves out what is known, unless the joint does."""

    def _joint_of(self, known: Attached, last_seq: int, most_bytes: int | None) -> Joint | None:
        """Return the joint that leaves out what is known; None if the decoder does.

        `most_bytes` limits what it holds back, in bytes of the log.
        """
        del known, last_seq, most_bytes
        return None

    def logged(self, body: Body, run: Run) -> None:
        """Note how the log has the run whose body this is."""

    @abstractmethod
    def _ending(self, run: Run) -> RunRequest:
        """Return the request that stops a run."""

    def new_run(self) -> Run | None:
        """Return a new run to ask for with `open_named`; None if the upstream names its runs itself."""
        return None

    async def open_named(self, request: Request, last_seq: int, said: Said | None, run: Run) -> Body:
        """Ask for the run, as `open` does.

        Raises:
            UpstreamError: see `open`.
        """
        raise NotImplementedError

    def may_have_begun(self, error: UpstreamError) -> bool:
        """Return whether a run that was asked for may go on in spite of the error."""
        return not error.upstream_status and error.reason not in _NOT_ASKED

    def keeps(self, run: Run) -> bool:
        """Return whether the run is one of this upstream's."""
        return run.at == self._base

    async def attach(self, request: Request, known: Attached, last_seq: int, most_bytes: int | None) -> Body:
        """Follow the request's run again; return the response's body once the status is known and accepted.

        Raises:
            UpstreamError: the run cannot be followed.
        """
        exchange = await self._accepted(self._send(b"", self._pool_for(self._following(known))))
        self._breakers.succeeded(self._model(request))
        body = self._body(exchange, self._decoder_of(request, known, last_seq))
        body.joint = self._joint_of(known, last_seq, most_bytes)
        return body

    def stop(self, run: Run) -> None:
        """Stop a run. Returns at once. A stop that fails is repeated after each of `stop_pauses`."""
        self._in_background(self._stop(run))

    def _in_background(self, stopping: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(stopping)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def aclose(self) -> None:
        """Send the stops that are under way, and close all connections."""
        if self._stopping:
            _, late = await asyncio.wait(self._stopping, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await super().aclose()

    async def _stop(self, run: Run) -> None:
        for pause in (0.0, *self.stop_pauses):
            await asyncio.sleep(pause)
            if await self._is_stopped(run):
                return

    async def _is_stopped(self, run: Run) -> bool:
        """Send a stop. Return whether the upstream has taken it, or refused it for good."""
        pool = self._pool_for(self._ending(run))
        try:
            async with asyncio.timeout(self._time_outs.status):
                exchange = await self._send(b"", pool)
                await start_of_body(exchange)
        except _LOST:
            return False
        finally:
            pool.close()
        return exchange.status < HTTPStatus.INTERNAL_SERVER_ERROR and exchange.status != HTTPStatus.TOO_MANY_REQUESTS

    def _pool_for(self, asked: RunRequest) -> Pool:
        """Return a pool for one request."""
        given = {name.lower(): value for name, value in self._request.headers.items()}
        del given["content-length"]  # The pool adds it.
        # Nothing would use the pool's connection again.
        given["connection"] = "close"
        request = httpx2.Request(asked.method, f"{self._base}{asked.path}", headers={**given, **asked.headers})
        return Pool(request, self._time_outs.connect, connector=self._pool.connector)
