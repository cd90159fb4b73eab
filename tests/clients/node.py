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


class Node:
    """A script that reads a job a line, and writes its result."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, **job: object) -> Any:  # noqa: ANN401 (JSON)
        """Return the result of a job."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Clients:
    """Runs the jobs of `fold.mjs`: a client reads the body of a response."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def use_chat(self, body: bytes, messages: Sequence[JSON], *, resumes: bool = False) -> JSON:
        """Return the state of a chat that had the messages. See `fold.mjs`."""
        seen: JSON = self._node.run(client="useChat", body=body.decode(), messages=messages, resumes=resumes)
        return seen

    def ag_ui(self, body: bytes, messages: Sequence[JSON]) -> JSON:
        """Return the state of an agent that had the messages. See `fold.mjs`."""
        seen: JSON = self._node.run(client="agUi", body=body.decode(), messages=messages)
        return seen


@contextmanager
def running(script: str) -> Iterator[Node]:
    """Start Node.js with a script of this directory, and end it behind the block."""
    with subprocess.Popen(
        [NODE, HERE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield Node(process)
        finally:
            process.kill()  # Responses that are still open would keep it.
