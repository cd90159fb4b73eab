"""llama.cpp's server as the upstream: its chat completions, whose streams can be followed again.

A request with the header `X-Conversation-Id` goes on without its client. The server keeps the bytes of its stream, the
last 4 MiB of them, until five minutes after its end. `GET /v1/stream` sends them from an offset on, and then what is
still generated; `DELETE /v1/stream` ends the generation
(https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README-dev.md, "Resumable streaming").
"""

from functools import partial

from service.answer import Attached, Said
from service.events import Run, new_answer_id
from service.request import Request
from service.upstream.body import Body, Decoder
from service.upstream.rerun import Rerun
from service.upstream.run_keeper import RunKeeper, RunRequest
from service.upstream.think_tags import Manner


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

    def new_run(self) -> Run:
        """Return a run. It is logged before it is asked for: the status comes when the prompt is read, much later."""
        return Run(new_answer_id(), self._base)

    async def open_named(self, request: Request, last_seq: int, said: Said | None, run: Run) -> Body:
        """Ask for the run, as `open` does."""
        send = partial(self._send, headers=b"X-Conversation-Id: %b\r\n" % run.id.encode("ascii"))
        exchange = await self._accepted(self._ask_by(send, request, said))
        self._breakers.succeeded(self._model(request))
        body = self._body(exchange, self._decoder(request, last_seq, said))
        body.run = run
        return body
