from collections.abc import Iterator

import pytest

from tests.clients.node import Clients, clients


@pytest.fixture(scope="session")
def node() -> Iterator[Clients]:
    """Other people's clients, which read bodies."""
    with clients() as running:
        yield running
