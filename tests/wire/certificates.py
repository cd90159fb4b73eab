"""Certificates made for one run of the tests."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from service.tls import ClientCertificate

NAMES = ("localhost", "upstream.example", "::1")


@dataclass(frozen=True)
class Authority:
    """An authority, with a server's certificate and a client's."""

    file: Path
    server: ssl.SSLContext
    client: ClientCertificate

    def demanding(self) -> ssl.SSLContext:
        """Return a server's context that demands a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority = trustme.CA.from_pem(self.file.read_bytes(), self.file.with_name("ca.key").read_bytes())
        authority.issue_cert(*NAMES).configure_cert(context)
        context.load_verify_locations(self.file)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_authority(directory: Path) -> Authority:
    """Write an authority and a client's certificate and key into the directory."""
    authority = trustme.CA()
    file = directory / "ca.pem"
    authority.cert_pem.write_to_path(file)
    authority.private_key_pem.write_to_path(directory / "ca.key")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(server)
    client = authority.issue_cert("folyam.example")
    client.private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
    client.cert_chain_pems[0].write_to_path(directory / "client.crt")
    client.private_key_pem.write_to_path(directory / "client.key")
    return Authority(file, server, ClientCertificate(str(directory / "client.crt"), str(directory / "client.key")))
