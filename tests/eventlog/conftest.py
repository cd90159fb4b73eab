"""Every backend, by the URLs of its logs: what is tested with these fixtures holds for all of them."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.eventlog import EventLog, Retention, open_event_log
from tests.eventlog.another import AnotherWorker


def _file_url(path: Path) -> str:
    return f"file://{path}/answers"


@pytest.fixture(scope="session", params=[pytest.param(_file_url, id="file")])
def new_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes URLs of logs that hold nothing yet."""
    return lambda: request.param(tmp_path_factory.mktemp("log"))


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
async def log(url: str) -> AsyncIterator[EventLog]:
    log = open_event_log(url, Retention())
    yield log
    await log.aclose()


@pytest.fixture
def another(url: str) -> Iterator[AnotherWorker]:
    with AnotherWorker(url) as another:
        yield another
