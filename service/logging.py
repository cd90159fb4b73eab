"""structlog: JSON for machines, colours for a person at a terminal. Lines carry ids, never what people wrote."""

import asyncio
import contextlib
import logging
import sys
import traceback
from typing import Any, TextIO

import msgspec
import structlog


def configure_logging() -> None:
    """Set up structlog, and the standard library's logging to go through it."""
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
    handler = logging.StreamHandler(sys.stderr)  # the standard library suppresses its failures
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=processors))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Have the event loop's own complaints logged as ours are: it would print what an exception says."""
    logger = structlog.get_logger()

    def complain(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        logger.error("event_loop", complaint=context.get("message"), exc_info=context.get("exception"))

    loop.set_exception_handler(complain)


class _Unfailing:
    """Wrap a file whose lines may get lost. The disk of the log may be full, and no request may fail for that."""

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
    """Put where an exception arose in place of what it says: a message may quote a key or somebody's question."""
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
