"""The contract of `service.eventlog.base`, on the oldest server that is supported: Debian's Redis 7.0."""

from collections.abc import Callable, Iterator

import pytest

from service import eventlog
from tests.eventlog import test_every_backend
from tests.eventlog.backends import BACKENDS_OF_TESTS, REDIS, Tested

globals().update({name: test for name, test in vars(test_every_backend).items() if name.startswith("test_")})


@pytest.fixture(scope="module", params=[pytest.param(REDIS, id=REDIS.name)])
def backend(request: pytest.FixtureRequest) -> Iterator[Tested]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eventlog, "BACKENDS", BACKENDS_OF_TESTS)
        yield request.param


@pytest.fixture(scope="module")
def new_url(backend: Tested, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    with backend.serve(tmp_path_factory.mktemp("server")) as url:
        yield lambda: url(tmp_path_factory.mktemp("log"))
