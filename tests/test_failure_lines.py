"""The service's log names the exception behind a failure of the upstream, and none of its words."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.test_refusals import outcome, service_of
from tests.upstream.raw import RawUpstream, chunk

RESETS: dict[str, tuple[bytes, str, str, int | None]] = {
    "before the status": (b"", "502 upstream_unreachable", "ConnectionResetError", None),
    "in the middle": (
        b"HTTP/1.1 200 OK\r\n\r\n" + chunk({"content": "a"}),
        "failed: upstream_cut",
        "ConnectionResetError",
        200,
    ),
    "behind another protocol": (b"SSH-2.0-OpenSSH\r\n", "502 upstream_malformed", "MalformedResponseError", None),
}
"""What the upstream says before it resets the connection; the reader's error, the exception and the status."""


async def line_of(base_url: str, directory: Path) -> tuple[str, dict[str, object]]:
    async with service_of(base_url, directory, FOLYAM_CONNECT_SECONDS="2") as service:
        with capture_logs() as lines:
            said = outcome(await service.ask("what somebody asked"))
    [line] = [dict(line) for line in lines if line["event"] == "answer"]
    assert "what somebody asked" not in str(lines)
    return said, line


@pytest.mark.parametrize("where", RESETS)
async def test_the_line_of_a_reset_names_the_exception(where: str, tmp_path: Path) -> None:
    said, expected, exception, status = RESETS[where]
    async with RawUpstream(lambda _: said, reset=True) as upstream:
        failure, line = await line_of(upstream.base_url, tmp_path)
    assert (failure, line["exception"], line.get("upstream_status")) == (expected, exception, status)


async def test_the_line_of_a_server_that_is_not_there_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    said, line = await line_of(f"http://127.0.0.1:{port}/v1", tmp_path)
    assert (said, line["exception"]) == ("502 upstream_unreachable", "ConnectionRefusedError")


async def test_the_line_of_a_name_that_is_unknown_says_so(tmp_path: Path) -> None:
    said, line = await line_of("http://unknown.invalid/v1", tmp_path)
    assert said in {"502 upstream_unreachable", "504 upstream_timeout"}  # Without a network, the resolver may time out.
    assert line["exception"] in {"gaierror", "TimeoutError", "CancelledError"}
