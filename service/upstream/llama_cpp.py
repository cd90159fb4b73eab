"""llama.cpp's server as the upstream: its chat completions, whose streams can be followed again.

A request with the header `X-Conversation-Id` goes on without its client. The server keeps the bytes of its stream, the
last 4 MiB of them, until five minutes after its end. `GET /v1/stream` sends them from an offset on, and then what is
still generated; `DELETE /v1/stream` ends the generation
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README-dev.md, "Resumable streaming").
"""

from functools import partial

from service.answer import Attached, Said
from service.errors import UpstreamError
from service.events import Run, new_answer_id
from service.request import Request
from service.upstream.body import Body, Decoder
from service.upstream.rerun import Rerun
from service.upstream.run_keeper import RunKeeper, RunRequest
from service.upstream.think_tags import Manner

_NOT_ASKED = frozenset({"connect_timeout", "proxy_unreachable", "proxy_refused"})
"""The reasons of a failure before the request was sent."""


class LlamaCppClient(RunKeeper):
    """One llama.cpp server with its connection pool.

    The id of a run is chosen here. Each question has one of its own: the server ends the run that has the id already.
    """

    stop_pauses = (0.3, 2.0)

    def _following(self, known: Attached) -> RunRequest:
        return RunRequest("GET", f"/stream?conv_id={known.run.id}&from=0")

    def _ending(self, run: Run) -> RunRequest:
        return RunRequest("DELETE", f"/stream?conv_id={run.id}")

    def _decoder_of(self, request: Request, known: Attached, last_seq: int) -> Decoder:
        # It is read as it was, by this worker or another one. Other answers may have shown another manner meanwhile.
        manner = Manner(in_field=not known.reasoning) if known.text or known.reasoning else None
        return self._decoder(request, last_seq, known.said, manner)

    def _joint_of(self, known: Attached, last_seq: int, most_bytes: int | None) -> Rerun:
        return Rerun(known, last_seq, most_bytes)

    async def _open(self, request: Request, last_seq: int, said: Said | None) -> Body:
        run = Run(new_answer_id(), self._base)
        send = partial(self._send, headers=b"X-Conversation-Id: %b\r\n" % run.id.encode("ascii"))
        try:
            exchange = await self._accepted(self._ask_by(send, request, said))
        except BaseException as error:
            if not (isinstance(error, UpstreamError) and (error.upstream_status or error.reason in _NOT_ASKED)):
                self.stop(run)  # It would go on to its end without a reader.
            raise
        body = self._body(exchange, self._decoder(request, last_seq, said))
        body.run = run
        return body
