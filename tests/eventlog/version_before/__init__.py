"""The version before the one that is being developed, as its workers write and read a log.

While one version replaces the other, both share a directory. A new version reads what the one before wrote, and writes
what the one before can read. Two things stand here for the version before, which a test cannot run from an archive:

- `*.jsonl`, the logs that its service wrote: `done` (with a history and parameters), `voices`, `stopped`, `failed`,
  `restarted` and `owned` (with an API key) have ended; the workers of `orphan` and `orphan-reasoning` were killed.
- `Event`, its events, as strict as it decoded them.

To record them anew, check the version out and, with `tests.e2e.stack.Service` and `tests.upstream.process`, ask its
service with `script(chunks=4)`, `script(reasoning=["hm ", "so "], chunks=2, refusal="no")`, `script(chunks=3,
stall_after=2)` and a stop, `script(chunks=4, cut_after=2)`, and `script(chunks=12, pace=0.1)` and a SIGKILL to master
and worker after the fourth event; `restarted` has a second service on the same log, with `FOLYAM_RECOVERY=restart`.
Copy the definitions of the events with them.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

DIRECTORY = Path(__file__).parent


class Turn(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str


class Request(msgspec.Struct):
    query: str
    model: str
    history: tuple[Turn, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    traceparent: str = ""


Tokens = Annotated[int, msgspec.Meta(ge=0)]


class Usage(msgspec.Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: dict[str, int | None] | None = None
    completion_tokens_details: dict[str, int | None] | None = None


class Timing(msgspec.Struct):
    first_chunk_seconds: float | None
    duration_seconds: float


class Start(msgspec.Struct, tag="start"):
    seq: int
    answer: str
    model: str
    request: Request | None = None
    at: float = 0.0
    owner: str = ""


class Delta(msgspec.Struct, tag="delta"):
    seq: int
    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Restart(msgspec.Struct, tag="restart"):
    seq: int


class Done(msgspec.Struct, tag="done"):
    seq: int
    finish_reason: str
    usage: Usage | None
    timing: Timing


class Stopped(msgspec.Struct, tag="stopped"):
    seq: int
    by: Literal["user", "unwatched", "shutdown"]


class Failed(msgspec.Struct, tag="failed"):
    seq: int
    code: str
    message: str
    retryable: bool


Event = Start | Delta | Restart | Done | Stopped | Failed
Terminal = Done | Stopped | Failed

decode = msgspec.json.Decoder(Event).decode
"""A line in, its event out. ValueError for what the version before took for damage: an unknown type, for one."""
