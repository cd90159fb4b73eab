"""Other people's clients in JavaScript, in a process of Node.js that stays for many jobs."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.stack import NODE

HERE = Path(__file__).parent
JSON = dict[str, Any]


class Clients:
    """Runs the jobs of `fold.mjs`: a client reads the body of a response."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def use_chat(self, body: bytes, messages: Sequence[JSON], *, resumes: bool = False) -> JSON:
        """Return the state of a chat that had the messages. See `fold.mjs`."""
        return self._run("useChat", body, messages=messages, resumes=resumes)

    def ag_ui(self, body: bytes, messages: Sequence[JSON]) -> JSON:
        """Return the state of an agent that had the messages. See `fold.mjs`."""
        return self._run("agUi", body, messages=messages)

    def _run(self, client: str, body: bytes, **job: object) -> JSON:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"client": client, "body": body.decode(), **job}) + "\n")
        self._process.stdin.flush()
        result: JSON = json.loads(self._process.stdout.readline())
        return result


@contextmanager
def clients() -> Iterator[Clients]:
    """Start Node.js, and end it behind the block."""
    with subprocess.Popen(
        [NODE, HERE / "fold.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        yield Clients(process)
