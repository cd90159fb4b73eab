"""One endpoint of the OpenAI-compatible API: its connections, its breakers, and the options that it accepts."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import msgspec

from service.answer import Said
from service.deadline import Deadline
from service.errors import UpstreamError
from service.request import Request
from service.upstream.body import Body, Decoder
from service.upstream.breaker import Breakers
from service.upstream.chunks import ChunkDecoder
from service.upstream.compression import decompressed
from service.upstream.connection import Exchange, MalformedResponseError
from service.upstream.connector import ProxyRefusedError, ProxyUnreachableError
from service.upstream.dialect import Dialects
from service.upstream.endpoint import Endpoint, TimeOuts, continuing, request_to
from service.upstream.errors import is_accepted, status_error
from service.upstream.pool import ConnectTimeOutError, Pool, UnreachableError, start_of_body
from service.upstream.redirects import MOST_REDIRECTS, redirected_to
from service.upstream.refusals import BAD_REQUEST
from service.upstream.think_tags import Manner, ThinkTagDecoder, thinks_inline

BREAKER_QUESTIONS = 5
"""Number of different questions that fail in a row, each with all its tries, before the breaker opens."""
BREAKER_SECONDS = 2.0
"""Interval in which an open breaker admits one question. Answers that have begun always pass, after a break or a
take-over: their attempts are few, and one that is rejected would count as one that brought nothing."""
ABSENT = frozenset({"unreachable", "proxy_unreachable", "unavailable", "connect_timeout", "status_timeout"})
"""Reasons that the breaker counts: the upstream is missing or unwell. A refusal is not counted: it is an answer."""
MOST_CORRECTIONS = 3
"""Limit on the further tries of a question whose parameters are refused: one for each thing that a dialect has."""

_encode = msgspec.json.Encoder().encode


class Client:
    """One endpoint with its connection pool.

    The openai package builds the request once, because only the body differs between answers. Building and sending each
    request with the package takes 1.9 million instructions, half of an answer's set-up. The package's object for each
    chunk (`chat.completions.create`) costs ten times as much as all else that a chunk takes.
    """

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        self.endpoint = endpoint
        self._max_tokens_name = endpoint.max_tokens_name
        self._secrets = [endpoint.api_key, endpoint.system_prompt, *(value for _, value in endpoint.headers)]
        self._time_outs = time_outs
        self._breakers = Breakers(BREAKER_QUESTIONS, BREAKER_SECONDS, time.monotonic)
        self._dialects = Dialects()
        self._manners: dict[str, Manner] = {}  # by model, of which the settings allow some
        self._pool = Pool(request_to(endpoint), time_outs.connect, endpoint.certificate)

    def admit(self, request: Request) -> None:
        """Return if the endpoint may be asked one more question.

        Raises:
            UpstreamError: the breaker is open.
        """
        if not self._breakers.admits(self._model(request)):
            raise UpstreamError("upstream_unavailable", "breaker", retry_after=str(math.ceil(BREAKER_SECONDS)))

    def failed(self, request: Request, error: UpstreamError) -> None:
        """Record the error of a question's last try."""
        if error.reason in ABSENT and not error.is_client_error:
            self._breakers.failed(self._model(request), hash(_encode(request.messages)))
        elif error.reason != "breaker":
            self._breakers.succeeded(self._model(request))

    async def open(self, request: Request, last_seq: int, said: Said | None) -> "Body":
        """Send the request; return the response's body once the status is known and accepted.

        The deltas are numbered on from `last_seq`. `said` is what the answer goes on from.

        Raises:
            UpstreamError: the status is an error, or none came.
        """
        body = await self._open(request, last_seq, said)
        self._breakers.succeeded(self._model(request))
        return body

    async def _open(self, request: Request, last_seq: int, said: Said | None) -> "Body":
        exchange = await self._accepted(self._ask(request, said))
        return self._body(exchange, self._decoder(request, last_seq, said))

    def _body(self, exchange: Exchange, decoder: Decoder) -> Body:
        return Body(decompressed(exchange), decoder, self._time_outs)

    async def _accepted(self, asking: Awaitable[Exchange]) -> Exchange:
        """Return the exchange, once its status is known and accepted.

        Raises:
            UpstreamError: the status is an error, or none came.
        """
        try:
            with Deadline(asyncio.get_running_loop().time() + self._time_outs.status):
                exchange = await asking
                if not is_accepted(exchange.status):
                    raise status_error(exchange, await start_of_body(exchange), self._secrets)
        except TimeoutError as error:
            raise UpstreamError("upstream_timeout", "status_timeout") from error
        except ConnectTimeOutError as error:
            raise UpstreamError("upstream_timeout", "connect_timeout") from error
        except MalformedResponseError as error:
            raise UpstreamError("upstream_malformed", "response") from error
        except ProxyUnreachableError as error:
            raise UpstreamError("upstream_unreachable", "proxy_unreachable") from error
        except ProxyRefusedError as error:
            raise UpstreamError("upstream_unreachable", "proxy_refused") from error
        except UnreachableError as error:
            raise UpstreamError("upstream_unreachable") from error
        return exchange

    def _decoder(
        self, request: Request, last_seq: int, said: Said | None, manner: Manner | None = None
    ) -> ChunkDecoder:
        """Return the decoder of a response. `manner` replaces the manner that other responses showed."""
        setting, model = self.endpoint.think_tags, self._model(request)
        has_tags = setting == "on" or (setting == "auto" and thinks_inline(model))
        in_reasoning = said is not None and bool(said.reasoning) and not said.text
        if not has_tags and not in_reasoning:
            return ChunkDecoder(last_seq)
        decoder = ThinkTagDecoder(last_seq, manner or self._manners.setdefault(model, Manner()))
        if in_reasoning:
            decoder.begin_in_reasoning(looks_for_tags=has_tags)
        return decoder

    async def aclose(self) -> None:
        """Close the endpoint's connections."""
        self._pool.close()

    async def _ask(self, request: Request, said: Said | None) -> Exchange:
        return await self._ask_by(self._send, request, said)

    async def _ask_by(
        self, send: Callable[[bytes], Awaitable[Exchange]], request: Request, said: Said | None
    ) -> Exchange:
        """Send the request in the model's dialect; send it once more for each thing that the model refuses by name.

        These tries are no retries: they are not paused for, and neither counted as such nor by the breaker.
        """
        payload = self._payload(request, said)
        dialect = self._dialects.of(payload["model"])
        tried: list[dict[str, Any]] = []
        while True:
            tried.append(body := dialect.express(payload))
            exchange = await send(_encode(body))
            if exchange.status not in BAD_REQUEST:
                if is_accepted(exchange.status) and len(tried) > 1:
                    self._dialects.learn(payload["model"], dialect)
                return exchange
            refusal = await start_of_body(exchange)
            corrected = dialect.corrected(body, refusal)
            if corrected is None or len(tried) > MOST_CORRECTIONS or corrected.express(payload) in tried:
                raise status_error(exchange, refusal, self._secrets)
            dialect = corrected

    async def _send(self, body: bytes, pool: Pool | None = None, headers: bytes = b"") -> Exchange:
        """Send the body, by the endpoint's own pool or another one, and follow redirects that keep the method.

        `headers` are lines for this request only.
        """
        pool = pool or self._pool
        url: httpx2.URL | None = None
        for _ in range(MOST_REDIRECTS):
            exchange = await pool.send(body, url, headers)
            url = redirected_to(url or pool.url, exchange.status, exchange.headers)
            if url is None:
                return exchange
            exchange.close()
        return await pool.send(body, url, headers)

    def _model(self, request: Request) -> str:
        return self.endpoint.model or request.model

    def _payload(self, request: Request, said: Said | None) -> dict[str, Any]:
        endpoint = self.endpoint
        messages = list(request.messages)
        if endpoint.system_prompt:
            messages.insert(0, {"role": "system", "content": endpoint.system_prompt})
        payload = {**request.parameters, "model": self._model(request), "messages": messages, "stream": True}
        if (tokens := payload.pop("max_tokens", None)) is not None:
            payload.setdefault(self._max_tokens_name, tokens)
        if said is not None:
            message, fields = continuing(endpoint, said)
            if message["content"] or "reasoning_content" in message:  # else it was white space
                messages.append(message)
                payload |= fields
        return payload
