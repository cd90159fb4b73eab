"""TLS to Valkey: whom the connection trusts, and what it shows of itself."""

import ssl

from service.eventlog.base import UnusableLog
from service.eventlog.valkey.address import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the file `ca`, or those that the system and SSL_CERT_FILE name.

    Raises:
        UnusableLog: a file cannot be used. The text names the part of the URL.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError):
        raise UnusableLog("ca should be the path of a file with certificates in PEM form that can be read") from None
    if tls.certificate is not None:
        try:
            # Without a password of its own the library would wait for one at the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
        except (OSError, ValueError):  # ssl.SSLError is an OSError.
            raise UnusableLog(
                "certificate should be the path of a PEM file with a certificate. Its key should be there or in the"
                " file of key, without a password"
            ) from None
    return context
