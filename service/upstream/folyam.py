"""Another Folyam as the upstream.

It keeps its answers, so that an answer that was cut is followed again and not paid for twice.
"""

import asyncio
from typing import Any

import httpx2
import msgspec

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import Run, is_answer_id
from service.request import GenerateRequest, Request, Turn
from service.upstream.body import Body
from service.upstream.client import Client
from service.upstream.connection import BrokenConnectionError, Exchange
from service.upstream.connector import ProxyRefusedError, ProxyUnreachableError
from service.upstream.endpoint import Endpoint, TimeOuts, request_to
from service.upstream.folyam_events import FolyamDecoder
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
"""Errors of a stop that are passed over: the upstream stops a run without a follower by itself, later."""

_encode = msgspec.json.Encoder().encode


class FolyamClient(Client):
    """One Folyam with its connection pool."""

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        super().__init__(endpoint, time_outs)
        self._request = request_to(endpoint)
        self._base = str(self._request.url).removesuffix("/generate")
        self._stopping: set[asyncio.Task[None]] = set()

    def keeps(self, run: Run) -> bool:
        """Return whether the run is one of this upstream's."""
        return run.at == self._base

    async def attach(self, known: Attached, last_seq: int) -> Body:
        """Follow a run again; return the response's body once the status is known and accepted.

        Raises:
            UpstreamError: the run cannot be followed.
        """
        run = known.run
        # The header, and not the address alone: proxies that keep an answer's address to themselves pass it on.
        pool = self._pool_to("GET", f"/answers/{run.id}", {"Last-Event-ID": f"{run.id}:0"})
        exchange = await self._accepted(self._send(b"", pool))
        return self._body(exchange, FolyamDecoder(last_seq, run, known))

    def stop(self, run: Run) -> None:
        """Stop a run. Returns at once. If the stop fails, the upstream stops the run later, for want of a follower."""
        task = asyncio.create_task(self._stop(run))
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
        pool = self._pool_to("POST", f"/answers/{run.id}/stop", {})
        try:
            async with asyncio.timeout(self._time_outs.status):
                await start_of_body(await self._send(b"", pool))
        except _LOST:
            pass
        finally:
            pool.close()

    def _pool_to(self, method: str, path: str, headers: dict[str, str]) -> Pool:
        given = {name.lower(): value for name, value in self._request.headers.items()}
        del given["content-length"]  # The pool adds it.
        # The pool is for one request, so that nothing would use its connection again.
        given["connection"] = "close"
        request = httpx2.Request(method, f"{self._base}{path}", headers={**given, **headers})
        return Pool(request, self._time_outs.connect, connector=self._pool.connector)

    async def _open(self, request: Request, last_seq: int, said: Said | None) -> Body:
        exchange = await self._accepted(self._ask(request, said))
        answer_id = next((value.decode("latin-1") for name, value in exchange.headers if name.lower() == _ID), "")
        if not is_answer_id(answer_id):
            exchange.close()
            raise UpstreamError("upstream_malformed", "stream")
        run = Run(answer_id, self._base)
        body = self._body(exchange, FolyamDecoder(last_seq, run))
        body.run = run
        return body

    async def _ask(self, request: Request, said: Said | None) -> Exchange:
        del said  # `/generate` continues no text; another run is begun instead.
        question = GenerateRequest.of(request)
        if question is None:
            raise UpstreamError("upstream_bad_request")
        history = question.history
        if self.endpoint.system_prompt:
            history = (Turn("system", self.endpoint.system_prompt), *history)
        given: dict[str, Any] = {
            "query": question.query,
            "history": history,
            "model": self.endpoint.model or question.model,
            "temperature": question.temperature,
            "max_tokens": question.max_tokens,
        }
        return await self._send(_encode({name: value for name, value in given.items() if value is not None}))


_ID = b"x-answer-id"
