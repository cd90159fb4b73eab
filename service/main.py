"""The application made from the environment. The only module whose import has effects."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

# Until the end of this module: collections during the imports take a tenth of a start's CPU time, and free nothing.
gc.disable()
# FastAPI imports this package to refuse its models, which takes 40 ms. FastAPI also works where the package is missing.
sys.modules["pydantic.v1"] = None  # type: ignore[assignment]

import structlog

from service.telemetry import own_slot

own_slot.claim()  # before the imports below, which create the metrics

from service.app import create_app, endpoints
from service.config import Settings, SettingsError, read_settings, variable_of
from service.eventlog import UnusableLog, prepare_event_log
from service.logging import configure_logging
from service.sandbox import confine
from service.telemetry import sending
from service.telemetry.gen_ai import Server
from service.tls import UnusableCertificate, check_authorities
from service.upstream.proxy import UnusableProxy, proxy_for
from service.upstream.tls import client_tls
from service.worker import CANNOT_LOAD


def _confine(settings: Settings) -> None:
    """Restrict this process's writes to the log and, with several workers, the metrics directory."""
    try:
        log = prepare_event_log(settings.log_url)
    except UnusableLog as error:
        variable = variable_of("log_url_file" if settings.log_url_file else "log_url")
        raise SettingsError(f"{variable}: {error}") from None
    counters = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    try:
        confined = confine([*log, *([Path(counters)] if counters else [])])
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be opened: {error.strerror}") from None
    if confined:
        structlog.get_logger().info("confined")
    else:
        structlog.get_logger().warning("not_confined", reason="this kernel has no Landlock")


def _import_otlp() -> Callable[[dict[str, Server]], None] | None:
    """Return the function that starts traces and metrics by OTLP; None if neither is configured.

    Call this before the confinement, which forbids writing .pyc files. Call the returned function after it: it starts a
    thread, which must be confined too.
    """
    if not sending.is_any_wanted():
        return None
    try:
        from service.telemetry.otlp import start  # noqa: PLC0415 (an extra)
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT switches on traces and metrics, and their packages are not installed. Run"
            " uv sync --extra tracing, or pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http."
        ) from None
    return start


def _check_ways_to_upstreams(settings: Settings) -> None:
    """Check the proxies, authorities and client certificate, which would otherwise fail each question.

    Raises:
        UnusableProxy, UnusableCertificate: one of them is invalid.
    """
    for endpoint in endpoints(settings):
        proxy = proxy_for(endpoint.base_url, os.environ)
        if endpoint.base_url.lower().startswith("https:") or (proxy is not None and proxy.scheme == "https"):
            check_authorities(os.environ)
        if endpoint.certificate is not None:
            client_tls(endpoint.certificate)


def _server(base_url: str) -> Server:
    url = urlsplit(base_url)
    return Server(url.hostname or "", url.port or (443 if url.scheme.lower() == "https" else 80))


try:
    settings = read_settings()
    _check_ways_to_upstreams(settings)
    configure_logging()
    start_otlp = _import_otlp()
    _confine(settings)
except (SettingsError, UnusableProxy, UnusableCertificate) as error:
    print(f"Folyam cannot start: {error}", file=sys.stderr)  # noqa: T201 (the log may not be configured yet)
    raise SystemExit(CANNOT_LOAD) from None
if start_otlp is not None:
    start_otlp({endpoint.role: _server(endpoint.base_url) for endpoint in endpoints(settings)})
app = create_app(settings)
# Imported objects live as long as the process. Frozen, they are left out of garbage collections, each of which would
# otherwise pause every stream for tens of milliseconds.
gc.collect()
gc.freeze()
gc.enable()
# A chunk creates some dozens of objects and no cycles. With the default threshold of 700, every second chunk would
# trigger a collection.
gc.set_threshold(20_000, 20, 20)
