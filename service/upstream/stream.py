"""The upstream: turns a request into deltas, with retries and a fallback endpoint."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import NO_RUN, Event, Run, Usage
from service.request import Request
from service.upstream.body import Body, Joint
from service.upstream.client import Client
from service.upstream.continuation import Continuation
from service.upstream.endpoint import Endpoint, Kind, Role, TimeOuts
from service.upstream.folyam import FolyamClient
from service.upstream.llama_cpp import LlamaCppClient
from service.upstream.responses import ResponsesClient
from service.upstream.run_keeper import RunKeeper

_CLIENTS: Mapping[Kind, type[Client]] = {
    "chat": Client,
    "folyam": FolyamClient,
    "llama.cpp": LlamaCppClient,
    "responses": ResponsesClient,
}

RETRY_SECONDS = (0.1, 0.4)
"""Bounds of the random pause before a retry at the same endpoint. Randomness spreads out simultaneous retries."""

BEGUN = frozenset({"status_timeout", "first_chunk_timeout", "cut", "truncated", "malformed"})
"""Reasons of a failure before the body is there, or the id of its run, after which the upstream may have begun."""

LONGEST_PAUSE_SECONDS = 1
"""Longest pause of a Retry-After that a retry waits for. A longer one is passed on to the client."""

_REPEATED = frozenset({"truncated", "malformed", "error"})
"""The reasons of a failure that is in the bytes of a run, and not on their way."""


class Upstream:
    """The endpoints, in the order in which they are tried."""

    def __init__(self, endpoints: Sequence[Endpoint], time_outs: TimeOuts, *, retries: int) -> None:
        self._clients = [_CLIENTS[endpoint.kind](endpoint, time_outs) for endpoint in endpoints]
        self._retries = retries

    @property
    def continues(self) -> bool:
        """Whether an endpoint can continue a given text."""
        return bool(self._continuing())

    def _continuing(self) -> list[Client]:
        return [client for client in self._clients if client.endpoint.continues]

    @property
    def keeps_runs(self) -> bool:
        """Whether an endpoint keeps its runs, so that they can be followed again."""
        return any(isinstance(client, RunKeeper) for client in self._clients)

    def keeps(self, run: Run) -> bool:
        """Return whether the run is one of these endpoints'."""
        return bool(self._keepers(run))

    def _keepers(self, run: Run) -> list[RunKeeper]:
        keepers = [client for client in self._clients if isinstance(client, RunKeeper) and client.keeps(run)]
        # The roles may have been exchanged since.
        return [client for client in keepers if client.endpoint.role == run.by] or keepers

    def stop(self, run: Run) -> None:
        """Stop a run of the upstream. Returns at once."""
        for client in self._keepers(run):
            client.stop(run)

    def stream(  # noqa: PLR0913 (one call, each by its name)
        self,
        request: Request,
        *,
        last_seq: int,
        said: Said | None = None,
        attached: Attached | None = None,
        attempt: int = 0,
        passes_breaker: bool = False,
        may_break: bool = False,
        most_bytes: int | None = None,
        on_status: Callable[[], None] | None = None,
        on_run: Callable[[Run], Awaitable[Run]] | None = None,
    ) -> "UpstreamStream":
        """Return the stream of one answer. Nothing is sent before its first `read`.

        The deltas are numbered on from `last_seq`. With `said`, those endpoints alone are asked that can continue it.
        With `attached`, that run is followed again. Each `attempt` to go on begins at another endpoint, so that one
        that accepts each time and then falls silent does not keep the others from being asked. Set `may_break` if a
        stream that breaks off may be continued. `most_bytes` is what the answer's log may still grow by. `on_status` is
        called at each status that is accepted, `on_run` with each new run before its first delta: it adds one event to
        the log, and returns the run that is in it.
        """
        clients: Sequence[Client] = self._clients if said is None else self._continuing()
        if attached is not None:
            clients = self._keepers(attached.run)
        first = attempt % len(clients)
        order = [*clients[first:], *clients[:first]]
        tries = [client for client in order for _ in range(1 + self._retries)]
        stream = UpstreamStream(tries, request, last_seq, said, on_status)
        stream.passes_breaker = passes_breaker
        stream.may_break = may_break
        stream.most_bytes = most_bytes
        stream.attached = attached
        stream.on_run = on_run
        return stream

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()


class UpstreamStream:
    """One answer from the upstream."""

    passes_breaker = False
    may_break = False
    most_bytes: int | None = None
    attached: Attached | None = None
    on_run: Callable[[Run], Awaitable[Run]] | None = None

    def __init__(
        self,
        tries: list[Client],
        request: Request,
        last_seq: int,
        said: Said | None,
        on_status: Callable[[], None] | None,
    ) -> None:
        self._tries = tries
        self._request = request
        self._last_seq = last_seq
        self._said = said
        self._on_status = on_status
        self._body: Body | None = None
        self._joint: Joint | None = None
        self._is_over = False
        self._is_own_run = False  # whether this stream began the run `attached`
        self.is_anew = False
        """Whether the upstream did not go on from what was handed back, and began another answer."""
        self._has_news = False
        self._has_lost_usage = False
        self.endpoint: Role = "primary"
        """The endpoint that is asked, or was asked last."""

    @property
    def ended(self) -> bool:
        """Whether the answer is complete. Then `finish_reason` and `usage` are known."""
        return self._body is not None and self._body.ended

    @property
    def finish_reason(self) -> str | None:
        """The reason that the upstream gave for the end; None if there is none yet."""
        return self._body.decoder.finish_reason if self._body is not None else None

    @property
    def usage(self) -> Usage | None:
        """The tokens as the upstream counted them; None if it has not said yet."""
        return self._body.decoder.usage if self._body is not None else None

    @property
    def has_all_usage(self) -> bool:
        """Whether `usage` has all tokens of each try that may have cost some."""
        if self._has_lost_usage or self._body is None:
            return False
        decoder = self._body.decoder
        has_ended = self._body.ended or decoder.done or decoder.run_ended or decoder.finish_reason is not None
        return has_ended and decoder.usage is not None and decoder.usage_complete

    @property
    def untold_run(self) -> Run | None:
        """The run that still goes on and tells its usage at its end; None if that would not be all of this stream's."""
        if self.attached is None or self.run_ended or self._has_lost_usage:
            return None
        return self.attached.run

    @property
    def status(self) -> int | None:
        """The status of the response that is being read; None before."""
        return self._body.status if self._body is not None else None

    @property
    def has_tool_calls(self) -> bool:
        """Whether the model called a tool."""
        return self._body is not None and self._body.decoder.has_tool_calls

    @property
    def run_ended(self) -> bool:
        """Whether the upstream's run is over after a failure, so that it is not followed again."""
        body = self._body
        if body is None:
            return False
        failure = body.decoder.failure
        # The same bytes end in the same failure each time.
        is_same = body.joint is not None and not self._has_news and failure is not None and failure.reason in _REPEATED
        return body.decoder.run_ended or is_same

    def read(self) -> Coroutine[Any, Any, Sequence[Event]]:
        """Return the deltas since the last call, at least one; an empty list once the answer is complete.

        A run that the upstream begins anew has a `restart` among them.

        Until the first delta, a failure is retried if another try or another endpoint may succeed.

        Raises:
            UpstreamError: all tries failed, or the answer broke off.
        """
        # No coroutine of its own: each one that a chunk passes through takes a thousand instructions.
        body = self._body
        if body is None or not body.begun:
            return self._first()
        return body.read() if self._joint is None else self._joined(body, self._joint, None)

    async def flow(self, push: Callable[[Sequence[Event]], bool]) -> None:
        """Wait until `read` would return or raise, or until `push` returns False.

        During the wait, `push` is called with the deltas, in the turn of the event loop in which they come. Before the
        first delta, and while a continuation repeats what was said, this returns at once.

        Raises:
            Exception: what `push` raises.
        """
        body = self._body
        if body is not None and body.begun and self._joint is None:
            await body.flow(push)

    def close(self) -> None:
        """Close the connection at once. May be called at any time, and twice."""
        if self._body is not None:
            self._body.close()

    async def _open(self, client: Client) -> Body:
        if self.attached is not None and isinstance(client, RunKeeper):
            return await client.attach(self._request, self.attached, self._last_seq, self.most_bytes)
        if not isinstance(client, RunKeeper):
            return await client.open(self._request, self._last_seq, self._said)
        run = client.new_run()
        if run is not None:
            return await self._open_named(client, await self._log_new(client, run))
        body = await client.open(self._request, self._last_seq, self._said)
        if body.run is not None:
            try:
                run = await self._log_new(client, body.run)
            except BaseException as error:
                body.close()
                if isinstance(error, Exception):
                    client.stop(body.run)  # Nothing in the log tells of it.
                raise
            if body.early is None:
                body.decoder.last_seq = self._last_seq
            client.logged(body, run)
            self._follow(run)
        return body

    async def _open_named(self, client: RunKeeper, run: Run) -> Body:
        """Ask for a run that is in the log already. If the worker dies meanwhile, the next one follows it."""
        try:
            body = await client.open_named(self._request, self._last_seq, self._said, run)
        except UpstreamError as error:
            await self._log_run(NO_RUN)
            if client.may_have_begun(error):
                client.stop(run)  # It would go on to its end without a reader.
            raise
        self._follow(run)
        return body

    def _follow(self, run: Run) -> None:
        # A further try at this endpoint follows the run, and does not pay for another.
        self.attached = Attached(run, 0, 0, 0, self._said)
        self._is_own_run = True

    async def _log_new(self, client: RunKeeper, run: Run) -> Run:
        return await self._log_run(
            msgspec.structs.replace(run, tells_all=not self._has_lost_usage, by=client.endpoint.role)
        )

    async def _log_run(self, run: Run) -> Run:
        if self.on_run is not None:
            run = await self.on_run(run)
            self._last_seq += 1
        return run

    async def _leave_run(self, client: Client) -> None:
        """Stop the run that this stream began, and log that what follows is not of it."""
        if self._is_own_run and self.attached is not None and isinstance(client, RunKeeper):
            left, self.attached = self.attached.run, None
            self._is_own_run = False
            self._has_lost_usage = True
            await self._log_run(NO_RUN)
            client.stop(left)  # Not before: another worker that has the answer follows the run.

    async def _first(self) -> Sequence[Event]:
        tries = iter(self._tries)
        client, asked = next(tries), None
        while True:
            self._body = None
            self.endpoint = client.endpoint.role
            try:
                # The breaker may reject a question before its first try at an endpoint, and not between two tries.
                if client is not asked and not self.passes_breaker:
                    client.admit(self._request)
                asked = client
                body = self._body = await self._open(client)
                body.decoder.keeps_halves = not self.may_break
                if self._on_status is not None:
                    self._on_status()
                deltas = await body.read() if body.early is None else body.early
            except UpstreamError as error:
                self.close()
                # It may have begun to generate, and tells no more of it. A refusal costs nothing. A run that is
                # followed again tells all at its end.
                lost = self.attached is None and (self._body is not None or error.reason in BEGUN)
                self._has_lost_usage = self._has_lost_usage or lost
                following = _next_try(tries, client, error, continues=self._said is not None)
                if following is not client:
                    client.failed(self._request, error)
                if following is None:
                    raise
                if following is client:
                    await asyncio.sleep(_pause(error))
                else:
                    await self._leave_run(client)
                client = following
            else:
                return await self._join(body, deltas)

    async def _join(self, body: Body, deltas: Sequence[Event]) -> Sequence[Event]:
        """Return the first new deltas. `deltas` are the body's first ones."""
        self._joint = body.joint
        if self._joint is None and self._said is not None:
            self._joint = Continuation(self._said, self._last_seq, self.most_bytes)
        if self._joint is None or not deltas:
            self._has_news = bool(deltas)
            return deltas
        return await self._joined(body, self._joint, deltas)

    async def _joined(self, body: Body, joint: Joint, deltas: Sequence[Event] | None) -> Sequence[Event]:
        """Return the next new deltas behind a joint. `deltas` are those that were read already, if any.

        Raises:
            UpstreamError: the answer broke off.
        """
        while not self._is_over:
            came = await body.read() if deltas is None else deltas
            deltas = None
            self._is_over = not came
            new = joint.add(came) if came else joint.end()
            self.is_anew = joint.is_anew
            if joint.is_found and not self._is_over:
                body.decoder.last_seq = joint.last_seq
                self._joint = None
            if not new and self._joint is None:
                new = await body.read()
            if new or self._joint is None:
                self._has_news = bool(new)
                return new
        return []


def _next_try(tries: Iterator[Client], client: Client, error: UpstreamError, *, continues: bool) -> Client | None:
    """Return the endpoint to ask after the error, or None.

    It is the same endpoint where the error may be temporary, and else the next one, which may know another model or
    accept a longer question. A request that is invalid, or not allowed, is sent to no other endpoint. An endpoint that
    does not take a continuation says so in the same way, and another one may.
    """
    if error.reason == "moderated" or (error.reason == "bad_request" and not continues):
        return None
    again = error.reason in ("unreachable", "proxy_unreachable", "unavailable", "cut", "truncated")
    again = again and int(error.retry_after or 0) <= LONGEST_PAUSE_SECONDS
    return next((other for other in tries if again or other is not client), None)


def _pause(error: UpstreamError) -> float:
    """Return the seconds before the next try at the same endpoint: no fewer than it asked for."""
    return max(int(error.retry_after or 0), random.uniform(*RETRY_SECONDS))  # noqa: S311 (dispersion, not a secret)
