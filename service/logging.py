"""Configure structlog: JSON, or colours at a terminal. Lines carry ids, never people's words."""

import asyncio
import contextlib
import logging
import sys
import traceback
from typing import Any, TextIO

import msgspec
import structlog


def configure_logging() -> None:
    """Configure structlog, and route the standard library's logging through it."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_its_words,
    ]
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(serializer=_serialize)
    )
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)  # The standard library suppresses write errors itself.
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=processors))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


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
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


def _serialize(event: structlog.typing.EventDict, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _exception_without_its_words(
    _logger: Any,  # noqa: ANN401 (structlog's processors are typed so)
    _method: str,
    event: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
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
