"""TLS to an upstream: whom the client trusts, and what it shows of itself."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from service.tls import ClientCertificate, UnusableCertificate, check_authorities
from service.upstream.pool import UnreachableError
from service.upstream.tls import client_tls
from tests.wire.certificates import Authority
from tests.wire.servers import CHUNKED, END, HELLO, Sender, request_on, saying, server, whole

GREETING = saying(CHUNKED, HELLO, END)


async def test_https_is_verified_by_name_and_certificate(
    trusting: Sender, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(GREETING, authority.server) as port:
        assert await whole(await trusting.ask(f"https://localhost:{port}/")) == b"hello"
        with pytest.raises(UnreachableError):
            await trusting.ask(f"https://127.0.0.1:{port}/")
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(UnreachableError):
            await Sender().ask(f"https://localhost:{port}/")


async def test_a_directory_of_authorities_is_trusted_too(
    sender: Sender, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name in such a directory is a hash of the subject.
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(authority.file)]
    name = (await asyncio.to_thread(subprocess.check_output, command, text=True)).strip()
    (tmp_path / f"{name}.0").write_bytes(authority.file.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with server(GREETING, authority.server) as port:
        assert await whole(await sender.ask(f"https://localhost:{port}/")) == b"hello"


@pytest.mark.parametrize("in_one_file", [True, False])
async def test_a_client_certificate_is_shown_to_a_server_that_demands_one(
    trusting: Sender, authority: Authority, *, in_one_file: bool
) -> None:
    shown: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert")["subjectAltName"])
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)

    certificate = ClientCertificate(str(authority.file.with_name("client.pem"))) if in_one_file else authority.client
    showing = Sender(certificate=certificate)
    async with server(serve, authority.demanding()) as port:
        url = f"https://localhost:{port}/"
        assert await whole(await showing.ask(url)) == b"hello"
        with pytest.raises(UnreachableError):
            await trusting.ask(url)
    showing.close()
    assert shown == [(("DNS", "folyam.example"),)]


@pytest.mark.parametrize("wrong", ["missing", "empty", "another key", "a key with a password"])
def test_a_client_certificate_that_cannot_be_used_is_an_error_at_once(
    authority: Authority, tmp_path: Path, wrong: str
) -> None:
    certificate, key = authority.client.certificate, tmp_path / "key.pem"
    if wrong == "empty":
        key.touch()
    elif wrong == "another key":
        key.write_bytes(authority.file.with_name("ca.key").read_bytes())
    elif wrong == "a key with a password":
        assert authority.client.key is not None
        command = ["openssl", "pkey", "-in", authority.client.key, "-aes256", "-passout", "pass:word"]
        subprocess.run([*command, "-out", str(key)], check=True)
    with pytest.raises(UnusableCertificate, match=r"^FOLYAM_UPSTREAM_CERTIFICATE: Should be"):
        client_tls(ClientCertificate(certificate, str(key)))


async def test_the_protocol_is_agreed_on_in_the_handshake(trusting: Sender, authority: Authority) -> None:
    spoken: list[str | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await request_on(reader)
        writer.write(CHUNKED + HELLO + END)

    both: ssl.SSLContext = authority.server
    both.set_alpn_protocols(["h2", "http/1.1"])
    async with server(serve, both) as port:
        assert await whole(await trusting.ask(f"https://localhost:{port}/")) == b"hello"
    assert spoken == ["http/1.1"]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    trusted = client_tls().cert_store_stats()
    monkeypatch.setenv(variable, "")
    assert client_tls().cert_store_stats() == trusted
    check_authorities({variable: ""})


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("wrong", ["missing", "no certificate"])
def test_authorities_that_cannot_be_read_are_refused(tmp_path: Path, variable: str, wrong: str) -> None:
    path = tmp_path / "file"
    if wrong == "no certificate":
        path.write_text("nothing")
    with pytest.raises(UnusableCertificate, match=f"^{variable}: Should be the path of"):
        check_authorities({variable: str(path)})


def test_authorities_that_can_be_read_are_taken(authority: Authority, tmp_path: Path) -> None:
    check_authorities({"SSL_CERT_FILE": str(authority.file), "SSL_CERT_DIR": f"/nowhere:{tmp_path}"})
    check_authorities({})
