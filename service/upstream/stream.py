"""The OpenAI-compatible API: a request in, deltas out. Its statuses become errors of ours here."""

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from service.errors import UpstreamError
from service.events import Delta, Request, Usage
from service.upstream.breaker import Breaker
from service.upstream.chunks import ChunkDecoder
from service.upstream.connection import BrokenConnectionError, Exchange
from service.upstream.endpoint import Endpoint, TimeOuts, request_to
from service.upstream.errors import BAD_REQUEST, is_accepted, status_error, timed_out
from service.upstream.pool import ConnectTimeOutError, Pool, UnreachableError, start_of_body

RETRY_SECONDS = (0.1, 0.4)
"""The pause before the same upstream is asked again, chosen at random between the two so that a crowd disperses."""

BREAKER_QUESTIONS = 5
"""After so many different questions have failed in a row, with all their tries, an upstream is not asked any more,"""
BREAKER_SECONDS = 2.0
"""but for one question in so many seconds, and for answers that are taken over: those have begun, and are few."""
ABSENT = frozenset({"unreachable", "unavailable", "connect_timeout", "status_timeout"})
"""The reasons that the breaker counts: the upstream is not there, or not well. A refusal is an answer."""

_encode = msgspec.json.Encoder().encode


class Upstream:
    """The endpoints, in the order in which they are asked."""

    def __init__(self, endpoints: Sequence[Endpoint], time_outs: TimeOuts, *, retries: int) -> None:
        self._clients = [_Client(endpoint, time_outs) for endpoint in endpoints]
        self._retries = retries

    @property
    def continues(self) -> bool:
        """Whether the first endpoint can go on from a given text."""
        return self._clients[0].endpoint.continuation != "none"

    def stream(
        self,
        request: Request,
        *,
        last_seq: int,
        said: str = "",
        taken_over: bool = False,
        on_status: Callable[[], None] | None = None,
    ) -> "UpstreamStream":
        """Return the answer to come, its deltas numbered on from `last_seq`, the text on from `said`."""
        clients = self._clients[:1] if said else self._clients
        tries = [client for client in clients for _ in range(1 + self._retries)]
        return UpstreamStream(tries, request, last_seq, said, on_status, taken_over=taken_over)

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()


class UpstreamStream:
    """One answer from the upstream. `ended` is set when it came to a whole end, `finish_reason` and `usage` with it."""

    def __init__(
        self,
        tries: "list[_Client]",
        request: Request,
        last_seq: int,
        said: str,
        on_status: Callable[[], None] | None,
        *,
        taken_over: bool,
    ) -> None:
        self._tries = tries
        self._request = request
        self._last_seq = last_seq
        self._said = said
        self._on_status = on_status
        self._taken_over = taken_over
        self._body: _Body | None = None
        self.ended = False
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    async def read(self) -> list[Delta]:
        """Return the deltas that have come since the last call: at least one, or none at the end.

        Before the first delta, failures that another try or another endpoint may not have are retried there.

        Raises:
            UpstreamError: the answer could not be had, or broke off.
        """
        body = self._body
        deltas = await body.read() if body is not None and body.begun else await self._first()
        if not deltas and self._body is not None:
            self.ended = True
            self.finish_reason = self._body.decoder.finish_reason
            self.usage = self._body.decoder.usage
        return deltas

    def close(self) -> None:
        """Close the connection, at once. May be called at any time, and twice."""
        if self._body is not None:
            self._body.close()

    async def _first(self) -> list[Delta]:
        tries = iter(self._tries)
        client, asked = next(tries), None
        while True:
            try:
                # Each question may be refused before it is asked; one that has begun is owed every try.
                if client is not asked and not self._taken_over:
                    client.admit(self._request)
                asked = client
                self._body = await client.open(self._request, self._last_seq, self._said)
                if self._on_status is not None:
                    self._on_status()
                return await self._body.read()
            except UpstreamError as error:
                self.close()
                following = _next_try(tries, client, error)
                if following is not client:
                    client.failed(self._request, error)
                if following is None:
                    raise
                if following is client:
                    await asyncio.sleep(random.uniform(*RETRY_SECONDS))  # noqa: S311 (dispersion, not a secret)
                client = following


def _next_try(tries: "Iterator[_Client]", client: "_Client", error: UpstreamError) -> "_Client | None":
    """Return the endpoint to ask after the error: the same one if the error may have passed, else the next, or None.

    Another endpoint may know another model, or take a longer question; a request that is wrong is wrong for each.
    """
    if error.reason == "bad_request":
        return None
    again = error.reason in ("unreachable", "unavailable", "cut", "truncated")
    return next((other for other in tries if again or other is not client), None)


class _Client:
    """One endpoint, its connections, and what is known of it.

    The openai package makes the request once. From one answer to the next only the body differs, and to make the rest
    of it again, and to send it, the package takes 1.9 million instructions, half of an answer's set-up; for a model
    object of each chunk, as its `chat.completions.create` makes them, ten times what a chunk costs in all.
    """

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        self.endpoint = endpoint
        self._time_outs = time_outs
        # Each model has its own: behind a router, one model's server may be down and another's not.
        self._breakers = defaultdict[str, Breaker](lambda: Breaker(BREAKER_QUESTIONS, BREAKER_SECONDS, time.monotonic))
        self._takes_stream_options: dict[str, bool] = {}  # each model, once it has been seen
        self._pool = Pool(request_to(endpoint), time_outs.connect)

    def admit(self, request: Request) -> None:
        """Let one more question be asked.

        Raises:
            UpstreamError: the endpoint has failed too often just now.
        """
        if not self._breakers[request.model].admits():
            raise UpstreamError(
                "upstream_unavailable",
                "The model's server cannot answer now.",
                reason="breaker",
                retry_after=str(math.ceil(BREAKER_SECONDS)),
            )

    def failed(self, request: Request, error: UpstreamError) -> None:
        """Note how the last try of a question ended."""
        breaker = self._breakers[request.model]
        if error.reason in ABSENT:
            breaker.failed(hash((request.query, request.history)))
        elif error.reason != "breaker":
            breaker.succeeded()

    async def open(self, request: Request, last_seq: int, said: str) -> "_Body":
        """Ask; return the body once a status has come that is accepted.

        Raises:
            UpstreamError: another status came, or none.
        """
        body = await self._open(request, last_seq, said)
        self._breakers[request.model].succeeded()
        return body

    async def _open(self, request: Request, last_seq: int, said: str) -> "_Body":
        try:
            async with asyncio.timeout(self._time_outs.status):
                exchange = await self._ask(request, said)
                if not is_accepted(exchange.status):
                    raise status_error(exchange, await start_of_body(exchange))
        except TimeoutError:
            raise timed_out("status", "did not answer") from None
        except ConnectTimeOutError:
            raise timed_out("connect", "could not be reached") from None
        except UnreachableError:
            raise UpstreamError("upstream_unreachable", "The model's server cannot be reached.") from None
        return _Body(exchange, ChunkDecoder(last_seq), self._time_outs)

    def close(self) -> None:
        self._pool.close()

    async def _ask(self, request: Request, said: str) -> Exchange:
        payload = self._payload(request, said)
        takes = self._takes_stream_options.get(request.model)
        if takes is False:
            return await self._pool.send(_encode(payload))
        exchange = await self._pool.send(_encode(payload | {"stream_options": {"include_usage": True}}))
        if is_accepted(exchange.status):
            self._takes_stream_options[request.model] = True
        elif exchange.status in BAD_REQUEST and not takes:
            # Not every server knows the option; whether that was what it disliked shows when it is left out.
            exchange.close()
            exchange = await self._pool.send(_encode(payload))
            if is_accepted(exchange.status):
                self._takes_stream_options[request.model] = False
        return exchange

    def _payload(self, request: Request, said: str) -> dict[str, Any]:
        endpoint = self.endpoint
        messages: list[dict[str, Any]] = []
        if endpoint.system_prompt:
            messages.append({"role": "system", "content": endpoint.system_prompt})
        messages += [{"role": turn.role, "content": turn.content} for turn in request.history]
        messages.append({"role": "user", "content": request.query})
        payload: dict[str, Any] = {"model": endpoint.model or request.model, "messages": messages, "stream": True}
        if request.temperature is not None:
            payload["temperature"] = request.temperature
        if request.max_tokens is not None:
            payload[endpoint.max_tokens_name] = request.max_tokens
        if said:
            messages.append({"role": "assistant", "content": said})
            if endpoint.continuation == "vllm":
                payload |= {"continue_final_message": True, "add_generation_prompt": False}
            elif endpoint.continuation == "prefix":
                messages[-1]["prefix"] = True
        return payload


class _Body:
    """A response's body, decoded, with an end to each wait."""

    def __init__(self, exchange: Exchange, decoder: ChunkDecoder, time_outs: TimeOuts) -> None:
        self.decoder = decoder
        self.begun = False
        self._ended = False
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._silence_seconds = time_outs.silence
        self._give_up_at = self._loop.time() + time_outs.first_chunk
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    async def read(self) -> list[Delta]:  # noqa: C901 (once a chunk: a coroutine more takes a thousand instructions)
        """Return at least one delta, or none at a whole end.

        Raises:
            UpstreamError: the stream fell silent, was cut, or is unreadable.
        """
        decoder = self.decoder
        while True:
            if decoder.failure is not None:
                raise decoder.failure
            if decoder.done:
                return self._end()
            try:
                data = await self._exchange.read()
            except TimeoutError:
                if decoder.finish_reason is None:
                    raise self._silent() from None
                data = b""
            except BrokenConnectionError:
                decoder.failure = UpstreamError("upstream_cut", "The connection to the model's server was cut.")
                data = b""
            if data:
                deltas = decoder.feed(data)
            elif decoder.finish_reason is not None:
                return self._end()
            elif decoder.failure is not None:
                deltas = decoder.finish()
            else:
                deltas = decoder.end()
            if deltas:
                self._give_up_at = self._loop.time() + self._silence_seconds
                if not self.begun:
                    self.begun = True
                    self._set_timer()  # The first chunk may have had longer than the next one has.
                return deltas

    def close(self) -> None:
        self._stop_looking()
        if not self._ended:
            self._exchange.close()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> list[Delta]:
        # The model is done; whether the server also closed its stream well is no longer of interest.
        deltas = self.decoder.finish()
        if deltas:
            self.begun = True
        else:
            # Some servers never tell a finish_reason. `[DONE]` behind a text is an end by the server's own word.
            if self.decoder.finish_reason is None and not (self.decoder.done and self.begun):
                raise UpstreamError("upstream_truncated", "The model's server ended its answer without finishing it.")
            self._stop_looking()
            self._ended = True
            self._exchange.leave()
        return deltas

    def _silent(self) -> UpstreamError:
        if self.begun:
            return timed_out("silence", "fell silent in the middle of its answer")
        return timed_out("first_chunk", "accepted the question but did not begin to answer")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._give_up_at, self._look)

    def _look(self) -> None:
        # One timer for the whole stream, set again when it fires too early, costs less than one for each chunk.
        if self._loop.time() < self._give_up_at:
            self._set_timer()
        else:
            self._timer = None
            self._exchange.expire()
