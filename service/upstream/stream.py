"""The OpenAI-compatible API: a request in, deltas out. Its statuses become errors of ours here."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence

from service.errors import UpstreamError
from service.events import Delta, Usage
from service.request import Request
from service.upstream.body import Body
from service.upstream.client import Client
from service.upstream.endpoint import Endpoint, TimeOuts

RETRY_SECONDS = (0.1, 0.4)
"""The pause before the same upstream is asked again, chosen at random between the two so that a crowd disperses."""


class Upstream:
    """The endpoints, in the order in which they are asked."""

    def __init__(self, endpoints: Sequence[Endpoint], time_outs: TimeOuts, *, retries: int) -> None:
        self._clients = [Client(endpoint, time_outs) for endpoint in endpoints]
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
        tries: list[Client],
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
        self._body: Body | None = None
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


def _next_try(tries: Iterator[Client], client: Client, error: UpstreamError) -> Client | None:
    """Return the endpoint to ask after the error: the same one if the error may have passed, else the next, or None.

    Another endpoint may know another model, or take a longer question; a request that is wrong is wrong for each.
    """
    if error.reason == "bad_request":
        return None
    again = error.reason in ("unreachable", "unavailable", "cut", "truncated")
    return next((other for other in tries if again or other is not client), None)
