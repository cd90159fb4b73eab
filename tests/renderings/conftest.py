from collections.abc import Iterator

import pytest

from tests.clients.node import Clients, running


@pytest.fixture(scope="session")
def node() -> Iterator[Clients]:
    """Other people's clients, which read bodies."""
    with running("fold.mjs") as node:
        yield Clients(node)
