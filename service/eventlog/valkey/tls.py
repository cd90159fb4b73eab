"""TLS to Valkey: whom the connection trusts, and what it shows of itself."""

import os
import ssl

from service.eventlog.base import UnusableLog
from service.eventlog.valkey.address import Tls
from service.tls import ClientCertificate, UnusableCertificate, check_authorities, client_context


def context_for(tls: Tls) -> ssl.SSLContext:
    """Return a context that trusts the authorities of the file `ca`, or those of the system or SSL_CERT_FILE.

    Raises:
        UnusableLog: a file cannot be used. The text names the part of the URL, or the variable.
    """
    try:
        context = client_context(tls.ca)
    except (OSError, ValueError):
        raise UnusableLog("ca should be the path of a file with certificates in PEM form that can be read") from None
    if tls.ca is None:
        try:
            check_authorities(os.environ)
        except UnusableCertificate as error:
            raise UnusableLog(f"With TLS, {error}") from None
    if tls.certificate is not None:
        try:
            ClientCertificate(tls.certificate, tls.key).load_into(context)
        except (OSError, ValueError):
            raise UnusableLog(
                "certificate should be the path of a PEM file with a certificate. Its key should be there or in the"
                " file of key, without a password"
            ) from None
    return context
