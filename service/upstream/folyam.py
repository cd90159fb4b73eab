"""Another Folyam as the upstream."""

from typing import Any

import msgspec

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import Run, is_answer_id
from service.request import GenerateRequest, Request, Turn
from service.upstream.body import Body
from service.upstream.connection import Exchange
from service.upstream.folyam_events import FolyamDecoder
from service.upstream.run_keeper import RunKeeper, RunRequest

_ID = b"x-answer-id"

_encode = msgspec.json.Encoder().encode


class FolyamClient(RunKeeper):
    """One Folyam with its connection pool. It stops a run that has no follower by itself, later."""

    def _following(self, known: Attached) -> RunRequest:
        run = known.run
        # The header, and not the address alone: proxies that keep an answer's address to themselves pass it on.
        return RunRequest("GET", f"/answers/{run.id}", {"Last-Event-ID": f"{run.id}:0"})

    def _decoder_of(self, request: Request, known: Attached, last_seq: int) -> FolyamDecoder:
        del request
        return FolyamDecoder(last_seq, known.run, known)

    def logged(self, body: Body, run: Run) -> None:
        """Note how the log has the run whose body this is."""
        if isinstance(body.decoder, FolyamDecoder):
            body.decoder.run = run  # It goes on in the log, with all that it is, if the upstream begins it anew.

    def _ending(self, run: Run) -> RunRequest:
        return RunRequest("POST", f"/answers/{run.id}/stop")

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
