"""What goes out by OTLP, as OpenTelemetry's own variables say, and the end of it."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Literal

FLUSH_SECONDS = 2.0
"""Maximum time a leaving worker waits for the collector to take its last spans and metrics."""

Signal = Literal["traces", "metrics"]

_shutdowns: list[Callable[[], None]] = []


def wanted(signal: Signal) -> bool:
    """Return whether the environment asks for the signal: it has a collector's address, and excludes the signal not."""
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    exporters = _variable(f"OTEL_{signal.upper()}_EXPORTER") or "otlp"
    return (
        any(map(_variable, endpoints))
        and "otlp" in [name.strip() for name in exporters.split(",")]
        and _variable("OTEL_SDK_DISABLED").lower() != "true"
    )


def is_any_wanted() -> bool:
    """Return whether the environment asks for traces or metrics by OTLP."""
    return wanted("traces") or wanted("metrics")


def at_close(shutdown: Callable[[], None]) -> None:
    """Have `shutdown` called at the end, in a thread. It sends what remains, and may block."""
    _shutdowns.append(shutdown)


async def aclose() -> None:
    """Send unsent spans and metrics, waiting at most `FLUSH_SECONDS`."""
    # Daemon threads: a collector that does not answer must not delay the worker's exit.
    threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in _shutdowns]
    _shutdowns.clear()
    for thread in threads:
        thread.start()
    await asyncio.gather(*(asyncio.to_thread(thread.join, FLUSH_SECONDS) for thread in threads))


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
