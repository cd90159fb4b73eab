"""OpenAI's Responses API in background mode as the upstream.

The server goes on with a run without its reader, which is paid for. So each run that no answer needs any more is
stopped, even if the answer ended before the run's id was known.
"""

import asyncio
from collections import OrderedDict
from urllib.parse import quote

import msgspec

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import Delta, Run
from service.request import Request
from service.upstream.body import Body
from service.upstream.endpoint import Endpoint, TimeOuts
from service.upstream.responses_events import Place, ResponsesDecoder
from service.upstream.responses_input import body_of
from service.upstream.run_keeper import RunKeeper, RunRequest

MOST_PLACES = 4096
"""Limit on the runs whose places are remembered. A run without one is followed again from its start."""

_encode = msgspec.json.Encoder().encode


class ResponsesClient(RunKeeper):
    """One endpoint of the Responses API."""

    stop_pauses = (0.3, 2.0)

    def __init__(self, endpoint: Endpoint, time_outs: TimeOuts) -> None:
        super().__init__(endpoint, time_outs)
        self._places: OrderedDict[str, Place] = OrderedDict()

    def _following(self, known: Attached) -> RunRequest:
        place = self._places.get(known.run.id)
        start = place.start(known) if place else None
        behind = "" if start is None else f"&starting_after={start}"
        return RunRequest("GET", f"{_path(known.run)}?stream=true{behind}")

    def _decoder_of(self, request: Request, known: Attached, last_seq: int) -> ResponsesDecoder:
        del request
        decoder = ResponsesDecoder(last_seq, self._base, known, self._places.get(known.run.id))
        self._remember(known.run, decoder.place)
        return decoder

    def _ending(self, run: Run) -> RunRequest:
        return RunRequest("POST", f"{_path(run)}/cancel")

    async def _open(self, request: Request, last_seq: int, said: Said | None) -> Body:
        del said  # The API continues no text.
        opening = asyncio.ensure_future(self._begin(request, last_seq))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._in_background(self._stop_begun(opening))
            raise

    async def _begin(self, request: Request, last_seq: int) -> Body:
        """Ask, and read up to the run's id."""
        question = body_of(request, self._model(request), self.endpoint.system_prompt)
        exchange = await self._accepted(self._send(_encode(question)))
        decoder = ResponsesDecoder(last_seq, self._base)
        body = self._body(exchange, decoder)
        try:
            body.early = await body.read()
        except BaseException:
            body.close()
            raise
        first = body.early[0] if body.early else None
        if isinstance(first, Delta) and first.run is not None:
            body.run = first.run
            self._remember(first.run, decoder.place)
            body.early = body.early[1:] or None
            if body.early is None:
                body.await_first()
        return body

    async def _stop_begun(self, opening: "asyncio.Future[Body]") -> None:
        """Stop the run of a question whose answer has ended, as soon as the run is known."""
        try:
            async with asyncio.timeout(self._time_outs.status):
                body = await opening
        except (UpstreamError, TimeoutError):
            return
        body.close()
        if body.run is not None:
            await self._stop(body.run)

    def _remember(self, run: Run, place: Place) -> None:
        self._places[run.id] = place
        self._places.move_to_end(run.id)
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)


def _path(run: Run) -> str:
    return f"/responses/{quote(run.id, safe='')}"
