"""A rolling restart from logs in files to logs on Valkey, as docs/operations.md describes it."""

import http.client
import signal
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Client, Stream, script
from tests.e2e.stack import READY_SECONDS, Service, eventually
from tests.upstream.process import UpstreamProcess
from tests.valkey import ValkeyServer

PACE_SECONDS = 0.05
CHUNKS = 200
WHOLE = "".join(f"w{n} " for n in range(1, CHUNKS + 1))


class Changing:
    """A service whose log's URL is in a file."""

    def __init__(self, directory: Path, upstream: UpstreamProcess, drain_seconds: str) -> None:
        self.files = (directory / "answers").as_uri()
        self.url = directory / "url"
        self.url.write_text(self.files)
        settings = {
            "FOLYAM_LOG_URL": "",
            "FOLYAM_LOG_URL_FILE": str(self.url),
            "FOLYAM_CONTINUE": "assistant",
            "FOLYAM_DRAIN_SECONDS": drain_seconds,
        }
        self.service = Service(directory, directory / "answers", upstream.base_url, settings=settings)
        self.client = Client(self.service.address)

    def change(self, url: str) -> None:
        """Write the URL, and send HUP. Returns when the new workers serve."""
        self.url.write_text(url)
        started = self.service.started()
        self.service.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.service.started() >= started + 2, READY_SECONDS)

    def follow(self, answer: str) -> tuple[int, list[dict[str, Any]]]:
        """Follow the answer; return the status and the events, or 0 if an old worker that leaves cut the response."""
        try:
            reply = self.client.follow(answer)
        except (http.client.HTTPException, OSError):
            return 0, []
        return reply.status, reply.events if reply.status == HTTPStatus.OK else []

    def is_known(self, answer: str) -> bool:
        """Return whether the worker that responds knows the answer."""
        return self.follow(answer)[0] != HTTPStatus.NOT_FOUND


@pytest.fixture
def changing(tmp_path: Path, upstream: UpstreamProcess, request: pytest.FixtureRequest) -> Iterator[Changing]:
    changing = Changing(tmp_path, upstream, request.param)
    with changing.service:
        eventually(lambda: changing.service.started() == 2, READY_SECONDS)
        yield changing


def text(events: list[dict[str, Any]]) -> str:
    return "".join(str(event.get("text", "")) for event in events)


@pytest.mark.parametrize("changing", ["300"], indirect=True)
def test_with_a_long_drain_running_answers_end_for_their_readers(changing: Changing, tmp_path: Path) -> None:
    with (
        ValkeyServer(tmp_path / "valkey") as valkey,
        changing.client.ask(script(chunks=CHUNKS, pace=PACE_SECONDS)) as stream,
    ):
        events = stream.events()
        read = [next(events)]
        changing.change(valkey.url)
        # The new workers answer, and do not know the old answers.
        eventually(lambda: not changing.is_known(stream.answer))
        reply = changing.client.generate(script(chunks=3))
        assert text(reply.events) == "w1 w2 w3 "
        read += events
    assert text(read) == WHOLE
    assert read[-1]["type"] == "done"


@pytest.mark.parametrize("changing", ["0"], indirect=True)
def test_an_answer_that_was_cut_by_the_change_is_carried_on_after_a_change_back(
    changing: Changing, tmp_path: Path
) -> None:
    with ValkeyServer(tmp_path / "valkey") as valkey:
        stream: Stream
        with changing.client.ask(script(chunks=CHUNKS, pace=PACE_SECONDS)) as stream:
            next(stream.events())
            changing.change(valkey.url)
            eventually(lambda: not changing.is_known(stream.answer))
        changing.change(changing.files)
        # Some workers may still have the log on Valkey.
        eventually(lambda: text(changing.follow(stream.answer)[1]) == WHOLE)
        assert changing.follow(stream.answer)[1][-1]["type"] == "done"
