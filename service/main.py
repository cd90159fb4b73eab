"""The application, from the environment. The only module whose import has effects."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from service.telemetry import own_slot

own_slot.claim()  # before the imports below: with them come the metrics

from service.app import create_app
from service.config import Settings, SettingsError, read_settings
from service.eventlog import UnusableLog, prepare_event_log
from service.logging import configure_logging
from service.sandbox import confine
from service.telemetry import tracing
from service.upstream.pool import UnusableProxy, check_proxy
from service.worker import CANNOT_LOAD


def _confine(settings: Settings) -> None:
    """Let this process write only the log and, with several workers, their counters."""
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
    """Return what starts traces, where they are asked for.

    Called before the confinement, under which no .pyc file is written. The returned function starts a thread, and is
    called after it, so that the thread is confined.
    """
    if not tracing.wanted():
        return None
    try:
        from service.telemetry.otlp import start  # noqa: PLC0415 (an extra)
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, which need packages that are not here:"
            " uv sync --extra tracing, or pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http."
        ) from None
    return start


try:
    settings = read_settings()
    for address in filter(None, (settings.openai_base_url, settings.fallback_base_url)):
        check_proxy(address)
    configure_logging()
    start_traces = _import_otlp()
    _confine(settings)
except (SettingsError, UnusableProxy) as error:
    print(f"Folyam cannot start: {error}", file=sys.stderr)  # noqa: T201 (there may be no log yet)
    raise SystemExit(CANNOT_LOAD) from None
if start_traces is not None:
    start_traces()
app = create_app(settings)
# What has been imported lives as long as the process. Left out of the collector's rounds, it no longer makes each of
# them a pause of tens of milliseconds for every stream.
gc.collect()
gc.freeze()
# A chunk makes some dozens of objects and no cycles. At the default of 700 the collector looks at every other chunk.
gc.set_threshold(20_000, 20, 20)
