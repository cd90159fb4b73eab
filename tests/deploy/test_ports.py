"""Invalid addresses of `make run` are rejected with the name of the variable to correct."""

import socket

import pytest

from deploy.local import ports
from deploy.local.errors import CannotRun
from deploy.local.web import ClientLimits


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FOLYAM_LISTEN", "FOLYAM_PORT", "FOLYAM_BIND"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["nonsense.invalid", "127.0.0.1:8080", "[::1]", "300.1.1.1", "192.0.2.1", "ä..b"])
def test_a_host_that_is_not_this_machines_is_blamed_on_its_variable(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("FOLYAM_LISTEN", host)
    monkeypatch.setenv("FOLYAM_PORT", str(ports.free().port))
    with pytest.raises(CannotRun, match=r"^FOLYAM_LISTEN is .*should be an address of this machine") as raised:
        ports.door()
    assert repr(host) in str(raised.value)
    assert "FOLYAM_PORT" not in str(raised.value)


@pytest.mark.parametrize("port", ["nonsense", "0", "65536", "-1", "80 81", "8080/tcp"])
def test_a_port_that_is_none_is_blamed_on_its_variable(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("FOLYAM_PORT", port)
    with pytest.raises(CannotRun, match=r"^FOLYAM_PORT is .*should be a port from 1 to 65535"):
        ports.door()


def test_a_port_in_use_is_blamed_on_its_variable_whatever_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with ports.listen(ports.Address("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("FOLYAM_LISTEN", "127.0.0.1")
        monkeypatch.setenv("FOLYAM_PORT", str(taken.getsockname()[1]))
        with pytest.raises(CannotRun, match=r"is in use by another program\. Choose another with FOLYAM_PORT"):
            ports.door()


@pytest.mark.parametrize(
    "bind", ["nonsense", "nonsense.invalid:8000", "192.0.2.1:8000", "127.0.0.1:nonsense", "ä..b:1"]
)
def test_an_address_that_gunicorn_cannot_have_is_blamed_on_its_variable(
    monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    monkeypatch.setenv("FOLYAM_BIND", bind)
    with pytest.raises(CannotRun, match="FOLYAM_BIND"):
        ports.service()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1"])  # noqa: S104
def test_an_address_of_this_machine_is_taken(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    port = ports.free().port
    monkeypatch.setenv("FOLYAM_LISTEN", host)
    monkeypatch.setenv("FOLYAM_PORT", str(port))
    assert ports.door() == ports.Address(host, port)


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    port = ports.free().port
    monkeypatch.setenv("FOLYAM_PORT", f" {port}\n")
    for name in ("FOLYAM_LISTEN", "FOLYAM_CLIENT_REQUESTS", "FOLYAM_MAX_BODY_BYTES"):
        monkeypatch.setenv(name, value)
    assert ports.door() == ports.Address("127.0.0.1", port)
    assert ClientLimits.read() == ClientLimits()
