"""An answer that begins anew, as the official clients of protocols with and without a way to take words back see it."""

from collections.abc import Iterator

import pytest

from tests.clients.node import Node, running
from tests.e2e.client import script
from tests.e2e.stack import Service
from tests.upstream.process import UpstreamProcess


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running("live.mjs") as node:
        yield node


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess) -> Iterator[Service]:
    """A service that begins an answer anew where its upstream breaks off."""
    directory = tmp_path_factory.mktemp("restarts")
    settings = {"FOLYAM_RECOVERY": "restart"}
    with Service(directory, directory / "answers", upstream.base_url, workers=1, settings=settings) as service:
        yield service


BREAKS = {"cut_after": 3, "tool_calls": [{"name": "look_up", "arguments": ['{"a":', "1}"]}]}


def test_use_chat_shows_the_new_beginning_alone(service: Service, node: Node) -> None:
    key = "restart-use-chat-0001"
    node.run(operation="open", name=key, api=f"http://{service.address}/api/chat", id=key, messages=[])
    node.run(operation="send", name=key, text=script(key=key, first=[BREAKS], chunks=5, text="new{n} "))
    state = node.run(operation="wait", name=key)
    assert state["status"] == "ready"
    assert [part.get("text") for part in state["messages"][-1]["parts"]] == [None, "new1 new2 new3 new4 new5 "]
    assert state["ran"] == []


def test_ag_ui_is_told_that_the_run_has_failed_and_reads_it_from_its_start(service: Service, node: Node) -> None:
    query = script(key="restart-ag-ui", first=[BREAKS], chunks=5)
    messages = [{"id": "u", "role": "user", "content": query}]
    seen = node.run(operation="run", url=f"http://{service.address}/ag-ui", threadId="t", messages=messages)
    assert seen["failed"]["code"] == "answer_restarted"
    assert "finished" not in seen
