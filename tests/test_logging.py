"""Log lines carry ids, never what people wrote: neither directly nor as part of what an exception says."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SECRET = "what somebody asked"  # noqa: S105 (no password)

PREAMBLE = f"""
import asyncio, logging, structlog
from service.logging import configure_logging
configure_logging()
logger = structlog.get_logger()
def breaks():
    raise ValueError({SECRET!r})
"""


def lines_of(program: str) -> list[dict[str, Any]]:
    """Return the log of a separate program, because logging is set up once a process."""
    ended = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert SECRET not in ended.stderr
    assert ended.stdout == ""
    return [json.loads(line) for line in ended.stderr.split("\n")[:-1]]


def test_a_line_is_one_json_object_with_its_time_and_level() -> None:
    [line] = lines_of("logger.info('answer', answer='0f', events=3, text='a\\n\\u2028b', at=b'x', key=object)")
    assert (line["event"], line["level"], line["answer"], line["events"]) == ("answer", "info", "0f", 3)
    assert line["text"] == "a\n\u2028b"
    assert line["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "log",
    [
        "logger.exception('broke')",
        "logger.warning('broke', exc_info=True)",
        "logger.warning('broke', exc_info=error)",
        "logging.getLogger('library').exception('broke')",
        "logging.getLogger('library').error('broke', exc_info=error)",
    ],
)
def test_an_exception_is_its_type_and_where_it_arose_and_not_what_it_says(log: str) -> None:
    [line] = lines_of(f"try:\n    breaks()\nexcept ValueError as error:\n    {log}\n")
    assert (line["event"], line["exception"]) == ("broke", "ValueError")
    assert line["frames"][-1].endswith(" breaks")


def test_neither_is_what_an_exceptions_cause_says() -> None:
    [line] = lines_of(
        "try:\n    try:\n        breaks()\n    except ValueError as error:\n        raise KeyError('x') from error\n"
        "except KeyError:\n    logger.exception('broke')\n"
    )
    assert line["exception"] == "KeyError"


def test_libraries_are_heard_from_warnings_on() -> None:
    lines = lines_of("logging.getLogger('library').info('quiet')\nlogging.getLogger('library').warning('loud')")
    assert [(line["event"], line["level"]) for line in lines] == [("loud", "warning")]


def test_an_exception_outside_any_is_no_exception() -> None:
    [line] = lines_of("logger.error('broke', exc_info=True)")
    assert line["event"] == "broke"
