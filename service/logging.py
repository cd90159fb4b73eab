"""Configure structlog: JSON, or colours at a terminal. Lines carry ids, never people's words."""

import asyncio
import logging
import sys
import time
import traceback
from functools import cache, lru_cache
from typing import Any, TextIO

import msgspec
import structlog


def configure_logging() -> None:
    """Configure structlog, and route the standard library's logging through it."""
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if terminal else _as_json
    structlog.configure(
        processors=[_complete, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    bound_logger.cache_clear()
    handler = logging.StreamHandler(sys.stderr)  # The standard library suppresses write errors itself.
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=[_complete]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


@cache
def bound_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger for the lines of each answer. `structlog.get_logger` returns one that binds anew for a line."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
    return logger


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log the event loop's errors as the service's own. By default asyncio logs the exception's message."""
    logger = structlog.get_logger()

    def complain(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logger.error("event_loop", complaint=context.get("message"), exc_info=context.get("exception"))

    loop.set_exception_handler(complain)


class _Unfailing:
    """A file whose failed writes are ignored: a request must not fail because the log's disk is full."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:
            pass

    def flush(self) -> None:
        """Do nothing: `write` does it. structlog calls both for each line."""


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _as_json(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:  # noqa: ANN401 (structlog's types)
    return _encode(event).decode()


def _complete(_logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ANN401 (the same)
    """Add the level and the time; replace an exception.

    One function: structlog's own for each of these took a third of a line.
    """
    event["level"] = method
    event["timestamp"] = _now()
    return _without_words(event) if "exc_info" in event else event


def _now() -> str:
    """Return the time in UTC, by ISO 8601, with microseconds."""
    second, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_to_the_second(second)}.{microseconds:06}Z"


@lru_cache(maxsize=1)
def _to_the_second(second: int) -> str:
    # A busy worker logs many lines in a second, and `datetime.isoformat` takes an eighth of a line.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _without_words(event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace an exception by its type and frames. Its message may quote a key or a question."""
    exception = event.pop("exc_info", None)
    if exception is True:
        exception = sys.exc_info()[1]
    elif isinstance(exception, tuple):
        exception = exception[1]
    if isinstance(exception, BaseException):
        event["exception"] = type(exception).__qualname__
        event["frames"] = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(exception.__traceback__)
        ]
    return event
