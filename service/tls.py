"""TLS to the servers that the service uses: the authorities that are trusted, and a client certificate."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_VARIABLE = "SSL_CERT_FILE"
DIRECTORY_VARIABLE = "SSL_CERT_DIR"


class UnusableCertificate(Exception):
    """A file of certificates cannot be used. The text names the variable."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The files of a client certificate, in PEM form. The file of the certificate may also hold its key."""

    certificate: str
    key: str | None = None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Show the certificate to servers.

        Raises:
            OSError, ValueError: it cannot be used. ssl.SSLError is an OSError.
        """
        # Without a password of its own the library would wait for one at the terminal.
        context.load_cert_chain(self.certificate, self.key, password="")


def client_context(authorities: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the file, or of SSL_CERT_FILE and SSL_CERT_DIR, or the system's.

    Raises:
        OSError, ValueError: the file cannot be used.
    """
    context = ssl.create_default_context(cafile=authorities)
    if authorities is not None:
        return context
    # OpenSSL takes an empty variable for the name of a file, and trusts no certificate.
    paths = ssl.get_default_verify_paths()
    if os.environ.get(FILE_VARIABLE) == "" and Path(paths.openssl_cafile).is_file():
        context.load_verify_locations(cafile=paths.openssl_cafile)
    if os.environ.get(DIRECTORY_VARIABLE) == "" and Path(paths.openssl_capath).is_dir():
        context.load_verify_locations(capath=paths.openssl_capath)
    return context


def check_authorities(environment: Mapping[str, str]) -> None:
    """Check SSL_CERT_FILE and SSL_CERT_DIR. OpenSSL passes over what it cannot read, and then trusts no certificate.

    Raises:
        UnusableCertificate: a file cannot be read or holds no certificate, or there is no such directory.
    """
    if file := environment.get(FILE_VARIABLE):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except (OSError, ValueError):
            raise UnusableCertificate(
                f"{FILE_VARIABLE}: Should be the path of a file with certificates in PEM form that can be read"
            ) from None
    directories = environment.get(DIRECTORY_VARIABLE)
    if directories and not any(Path(directory).is_dir() for directory in directories.split(os.pathsep)):
        raise UnusableCertificate(f"{DIRECTORY_VARIABLE}: Should be the path of a directory with certificates")
