"""The two parts of the tests: the quick ones of `make check`, and those with servers of `make test-servers`.

    python -m pytest --part=quick tests

Without the option, both parts run. Only the modules of the part are imported: those of both take each process seconds.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVERS = (
    "bench",
    "clients",
    "e2e",
    "faults",
    "run",
    "eventlog/valkey",
    "deploy/test_gunicorn.py",
    "deploy/test_nginx.py",
    "deploy/test_start.py",
    "test_allocation.py",
    "test_sandbox.py",
    "test_worker_slots.py",
)
"""Directories and modules that start servers or browsers, break servers and wait, or start a process in each test."""
PARTLY = (
    "eventlog/test_channel.py",
    "eventlog/test_every_backend.py",
    "test_breaks.py",
    "test_follower.py",
    "test_large_requests.py",
    "test_log_away.py",
    "test_producer.py",
    "test_push.py",
    "test_same_requests.py",
    "test_tool_breaks.py",
    "test_usage.py",
    "test_vectors.py",
)
"""Modules of quick tests with some that have the marker `servers`, such as those whose log is in Valkey."""


def is_left_out(module: str, part: str | None) -> bool:
    """Return whether no test of the module, a path below `tests`, is in the part."""
    has_servers = any(module == place or module.startswith(f"{place}/") for place in SERVERS)
    return (part == "quick" and has_servers) or (part == "servers" and not has_servers and module not in PARTLY)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=("quick", "servers"), help="run only the quick tests, or those with servers")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave modules of the other part out."""
    if collection_path.suffix != ".py" or not collection_path.is_relative_to(HERE):
        return None
    # None lets others say.
    return is_left_out(collection_path.relative_to(HERE).as_posix(), config.getoption("part")) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests of the other part out of modules that have both.

    Raises:
        UsageError: A module has a test with servers, and is not listed: no part would run it.
    """
    part = config.getoption("part")
    others: list[pytest.Item] = []
    for item in items:
        module = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        with_servers = item.get_closest_marker("servers") is not None
        if with_servers and module not in PARTLY:
            raise pytest.UsageError(f"{item.nodeid} needs servers: its module belongs into PARTLY of tests/parts.py.")
        if module in PARTLY and part == ("quick" if with_servers else "servers"):
            others.append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        left_out = {*others}
        items[:] = [item for item in items if item not in left_out]
