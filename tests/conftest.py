"""What every test may use."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.upstream.process import UpstreamProcess

# No deadline: these machines are shared, and a slow moment is not a defect.
hypothesis.settings.register_profile("check", deadline=None, max_examples=100)
hypothesis.settings.load_profile("check")


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamProcess]:
    with UpstreamProcess.start() as process:
        yield process
