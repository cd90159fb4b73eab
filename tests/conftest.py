"""Fixtures and hooks of all tests."""

import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import hypothesis
import pytest

from service import eventlog
from service.eventlog import EventLog, Retention, open_event_log
from tests.eventlog.another import AnotherWorker
from tests.eventlog.backends import BACKENDS_OF_TESTS, TESTED, Tested, can_run, marks_of
from tests.tables import Report, Table
from tests.upstream.process import UpstreamProcess

pytest_plugins = ["tests.grouping", "tests.parts"]

# No deadline: the machines are shared, and a slow moment is not a defect. Each run draws other examples.
hypothesis.settings.register_profile("check", deadline=None, max_examples=50)
hypothesis.settings.load_profile("check")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without looking for garbage: modules and tests stay. It takes each process 2.5 s, and not 4.2."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that a backend of the log does not support."""
    left_out = [item for item in items if not can_run(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if can_run(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables to which tests added rows, in whichever process they ran."""
    tables: dict[str, Table] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                for title, cells in report.user_properties:
                    tables.setdefault(title, Table(title)).add(*cells)
    for _, table in sorted(tables.items()):
        terminalreporter.section(table.title)
        for line in table.lines():
            terminalreporter.write_line(line)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    return Report(request.node)


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamProcess]:
    with UpstreamProcess.start() as process:
        yield process


# Event logs: a test that takes one of these runs on every backend.


@pytest.fixture(scope="session", params=[pytest.param(each, id=each.name, marks=marks_of(each)) for each in TESTED])
def backend(request: pytest.FixtureRequest) -> Iterator[Tested]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eventlog, "BACKENDS", BACKENDS_OF_TESTS)
        yield request.param


@pytest.fixture(scope="session")
def new_url(backend: Tested, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes URLs of empty logs."""
    with backend.serve(tmp_path_factory.mktemp("server")) as url:
        yield lambda: url(tmp_path_factory.mktemp("log"))


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
async def log(url: str) -> AsyncIterator[EventLog]:
    log = open_event_log(url, Retention())
    yield log
    await log.aclose()


@pytest.fixture
def forgetful_log(log: EventLog) -> EventLog:
    """A log that may forget what was written."""
    return log


@pytest.fixture
def immediate_log(log: EventLog) -> EventLog:
    """A log in which an append takes no turn of the event loop."""
    return log


@pytest.fixture
def another(url: str) -> Iterator[AnotherWorker]:
    with AnotherWorker(url) as another:
        yield another
