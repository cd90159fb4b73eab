"""TLS to upstreams and proxies."""

import ssl

from service.tls import ClientCertificate, UnusableCertificate, client_context


def client_tls(certificate: ClientCertificate | None = None) -> ssl.SSLContext:
    """Return a TLS context for HTTP/1.1.

    Raises:
        UnusableCertificate: the client certificate cannot be used.
    """
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        try:
            certificate.load_into(context)
        except (OSError, ValueError):
            raise UnusableCertificate(
                "FOLYAM_UPSTREAM_CERTIFICATE: Should be the path of a PEM file with a certificate. Its key should be"
                " there or in the file of FOLYAM_UPSTREAM_CERTIFICATE_KEY, without a password"
            ) from None
    return context
