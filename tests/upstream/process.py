"""An upstream in its own process, and its records of requests.

The methods block. A test that runs the service in its own event loop calls those that wait through
`asyncio.to_thread`.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
CONTROL_SECONDS = 60.0
DEADLINE_SECONDS = 20.0
"""Long enough for a busy machine, and less than FOLYAM_UNWATCHED_SECONDS, which would hide that a stop has failed."""
POLL_SECONDS = 0.01


class UpstreamProcess:
    """A running upstream. Ends with the `with` block, and with the process that started it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address
        """`http://127.0.0.1:<port>`, for the control plane."""
        self.base_url = f"{address}/v1"
        """The value for `OPENAI_BASE_URL`."""

    @classmethod
    def start(cls, port: int = 0, prefix: tuple[str, ...] = (), children: int = 0, host: str = "127.0.0.1") -> Self:
        """Start an upstream and wait until it accepts connections.

        `prefix` goes before the command, as in `("taskset", "-c", "1")`. With `children` it serves in so many processes
        that may die and are replaced. Their records are their own.
        """
        more = ["--children", str(children)] if children else []
        process = subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-m",
                "tests.upstream",
                "--host",
                host,
                "--port",
                str(port),
                "--until-eof",
                *more,
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            process.kill()
            process.communicate(timeout=READY_SECONDS)
            raise RuntimeError("the upstream did not start: see above for why")
        return cls(process, address)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=CONTROL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate(timeout=CONTROL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def requests(self, key: str | None = None, query: str | None = None) -> list[dict[str, Any]]:
        """The records (`tests.upstream.records.Record`) of all requests, or of one key or query text."""
        records = self._control("GET", key, query)
        assert isinstance(records, list)
        return records

    def forget(self, key: str | None = None, query: str | None = None) -> None:
        """Drop the records."""
        self._control("DELETE", key, query)

    def end(self, key: str) -> None:
        """End the answers of this key without further chunks, now or once they are asked for."""
        self._control("POST", key, None, "/end")

    def step(self, key: str) -> None:
        """Let the answer of this key, whose script is `on_demand`, send its next chunk or come to its end."""
        self._control("POST", key, None, "/next")

    def said(self, key: str) -> int:
        """Return the number of text chunks of this key's last answer, once it is over, including the given ones."""
        record = self.wait_closed(key)[-1]
        last = record["messages"][-1]
        given = last["content"] if last["role"] == "assistant" else ""
        sent = int(record["chunks_sent"])
        # A text is given without the white space at its end, which is then the first chunk, if any is sent.
        is_space_first = given != "" and given == given.rstrip()
        return len(given.split()) + (max(0, sent - 1) if is_space_first else sent)

    def wait_until(
        self,
        condition: Callable[[list[dict[str, Any]]], bool],
        key: str | None = None,
        seconds: float = DEADLINE_SECONDS,
    ) -> list[dict[str, Any]]:
        """Return the records once they fulfil the condition.

        Raises:
            TimeoutError: they do not in time.
        """
        deadline = time.monotonic() + seconds
        while not condition(records := self.requests(key)):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"not within {seconds} s; the last records: {json.dumps(records, indent=1)}")
            time.sleep(POLL_SECONDS)
        return records

    def wait_opened(self, key: str, seconds: float = DEADLINE_SECONDS, requests: int = 1) -> list[dict[str, Any]]:
        """Wait until this number of requests of the key have come."""
        return self.wait_until(lambda records: len(records) >= requests, key, seconds)

    def wait_closed(self, key: str, seconds: float = DEADLINE_SECONDS, requests: int = 1) -> list[dict[str, Any]]:
        """Wait until this number of requests of the key have come and are over."""
        return self.wait_until(
            lambda records: len(records) >= requests and all(record["closed_at"] for record in records), key, seconds
        )

    def _control(self, method: str, key: str | None, query: str | None, path: str = "/requests") -> object:
        wanted = {name: value for name, value in (("key", key), ("query", query)) if value is not None}
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=CONTROL_SECONDS)
        try:
            connection.request(method, f"{path}?{urlencode(wanted)}")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
