"""One endpoint of the OpenAI-compatible API, its connections, and what is known of it."""

import asyncio
import math
import time
from collections import defaultdict
from typing import Any

import msgspec

from service.errors import UpstreamError
from service.request import Request
from service.upstream.body import Body
from service.upstream.breaker import Breaker
from service.upstream.chunks import ChunkDecoder
from service.upstream.connection import Exchange
from service.upstream.endpoint import Endpoint, TimeOuts, request_to
from service.upstream.errors import BAD_REQUEST, is_accepted, status_error, timed_out
from service.upstream.pool import ConnectTimeOutError, Pool, UnreachableError, start_of_body

BREAKER_QUESTIONS = 5
"""After so many different questions have failed in a row, with all their tries, an upstream is not asked any more,"""
BREAKER_SECONDS = 2.0
"""but for one question in so many seconds, and for answers that are taken over: those have begun, and are few."""
ABSENT = frozenset({"unreachable", "unavailable", "connect_timeout", "status_timeout"})
"""The reasons that the breaker counts: the upstream is not there, or not well. A refusal is an answer."""

WITH_USAGE = {"stream_options": {"include_usage": True}}
"""Asks for usage in a last chunk. A server that does not know the option is asked without it from then on."""

_encode = msgspec.json.Encoder().encode


class Client:
    """One endpoint, its connections, and what is known of it.

    The openai package makes the request once. From one answer to the next only the body differs, and to make the rest
    of it again, and to send it, the package takes 1.9 million instructions, half of an answer's set-up; for a model
    object of each chunk, as its `chat.completions.create` makes them, ten times what a chunk costs in all.
    """

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        self.endpoint = endpoint
        self._max_tokens_name = endpoint.max_tokens_name
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
            breaker.failed(hash(_encode(request.messages)))
        elif error.reason != "breaker":
            breaker.succeeded()

    async def open(self, request: Request, last_seq: int, said: str) -> "Body":
        """Ask; return the body once a status has come that is accepted.

        Raises:
            UpstreamError: another status came, or none.
        """
        body = await self._open(request, last_seq, said)
        self._breakers[request.model].succeeded()
        return body

    async def _open(self, request: Request, last_seq: int, said: str) -> "Body":
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
        return Body(exchange, ChunkDecoder(last_seq), self._time_outs)

    def close(self) -> None:
        """Close the endpoint's connections."""
        self._pool.close()

    async def _ask(self, request: Request, said: str) -> Exchange:
        payload = self._payload(request, said)
        takes = self._takes_stream_options.get(request.model)
        if takes is False:
            return await self._pool.send(_encode(payload))
        exchange = await self._pool.send(_encode(payload | WITH_USAGE))
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
        messages = list(request.messages)
        if endpoint.system_prompt:
            messages.insert(0, {"role": "system", "content": endpoint.system_prompt})
        payload = {**request.parameters, "model": endpoint.model or request.model, "messages": messages, "stream": True}
        if (tokens := payload.pop("max_tokens", None)) is not None:
            payload[self._max_tokens_name] = tokens
        if said:
            messages.append({"role": "assistant", "content": said})
            if endpoint.continuation == "vllm":
                payload |= {"continue_final_message": True, "add_generation_prompt": False}
            elif endpoint.continuation == "prefix":
                messages[-1]["prefix"] = True
        return payload
