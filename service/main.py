"""The application made from the environment. The only module whose import has effects."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from service.telemetry import own_slot

own_slot.claim()  # before the imports below, which create the metrics

from service.app import create_app
from service.config import Settings, SettingsError, read_settings
from service.eventlog import UnusableLog, prepare_event_log
from service.logging import configure_logging
from service.sandbox import confine
from service.telemetry import tracing
from service.upstream.proxy import UnusableProxy, proxy_for
from service.worker import CANNOT_LOAD


def _confine(settings: Settings) -> None:
    """Restrict this process's writes to the log and, with several workers, the metrics directory."""
    try:
        log = prepare_event_log(settings.log_url)
    except UnusableLog as error:
        raise SettingsError(f"FOLYAM_LOG_URL: {error}") from None
    counters = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    try:
        confined = confine([*log, *([Path(counters)] if counters else [])])
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be opened: {error.strerror}") from None
    if confined:
        structlog.get_logger().info("confined")
    else:
        structlog.get_logger().warning("not_confined", reason="this kernel has no Landlock")


def _import_otlp() -> Callable[[], None] | None:
    """Return the function that starts traces; None if traces are not configured.

    Call this before the confinement, which forbids writing .pyc files. Call the returned function after it: it starts a
    thread, which must be confined too.
    """
    if not tracing.wanted():
        return None
    try:
        from service.telemetry.otlp import start  # noqa: PLC0415 (an extra)
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT switches on traces, and their packages are not installed. Run"
            " uv sync --extra tracing, or pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http."
        ) from None
    return start


try:
    settings = read_settings()
    for address in filter(None, (settings.openai_base_url, settings.fallback_base_url)):
        proxy_for(address, os.environ)  # raises if it is invalid
    configure_logging()
    start_traces = _import_otlp()
    _confine(settings)
except (SettingsError, UnusableProxy) as error:
    print(f"Folyam cannot start: {error}", file=sys.stderr)  # noqa: T201 (the log may not be configured yet)
    raise SystemExit(CANNOT_LOAD) from None
if start_traces is not None:
    start_traces()
app = create_app(settings)
# Imported objects live as long as the process. Frozen, they are left out of garbage collections, each of which would
# otherwise pause every stream for tens of milliseconds.
gc.collect()
gc.freeze()
# A chunk creates some dozens of objects and no cycles. With the default threshold of 700, every second chunk would
# trigger a collection.
gc.set_threshold(20_000, 20, 20)
