"""Odd streams in the form of the Responses API, over a socket, through the client and a producer into a log."""

import asyncio
import time
from pathlib import Path

import openai
import pytest

from service.events import Done, Event, Failed
from service.question import to_request
from service.upstream.endpoint import Endpoint
from tests.test_odd_streams import MODEL, finished, said
from tests.upstream.bodies import response
from tests.upstream.odd_responses import CASES, HELLO, WORLD, Case, end
from tests.upstream.piecewise import RawServer, serving
from tests.waiting import DEADLINE_SECONDS
from tests.working import TIME_OUTS, worker


async def answered(raw: RawServer, tmp_path: Path) -> list[Event]:
    """Ask the server; return the events of the answer's log."""
    first = Endpoint(raw.base_url, "key", kind="responses")
    async with worker(f"file://{tmp_path}/answers", raw, first=first, retries=1) as here:
        producer = await here.ask(to_request("hi", model=MODEL))
        return await here.follow(producer.answer_id)


async def read_by_openai(raw: RawServer) -> str:
    """What the openai package makes of the response."""
    text, status, usage = "", None, None
    async with openai.AsyncOpenAI(api_key="key", base_url=raw.base_url, max_retries=0) as client:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                stream = await client.responses.create(model=MODEL, input="hi", stream=True)
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        text += event.delta or ""
                    if event.type in ("response.completed", "response.incomplete", "response.failed"):
                        status, usage = event.response.status, event.response.usage
        except Exception as error:  # noqa: BLE001 (the class is the result)
            return f"{text!r}, then {type(error).__name__}"
    return f"{text!r}, {status}" + (", usage" if usage else "")


def ours(case: Case) -> str:
    """What Folyam makes of the response, in the same form."""
    if case.end != "done":
        return f"{case.text!r}, then {case.end}"
    return f"{case.text!r}, {case.finish_reason}" + (", usage" if case.usage else "")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_an_odd_stream_comes_to_its_true_end(case: Case, tmp_path: Path) -> None:
    before = finished()
    async with serving(case.raw) as raw:
        events = await answered(raw, tmp_path)
        assert raw.asked == 1
        by_openai = await read_by_openai(raw)
    last = events[-1]
    assert (said(events, "text"), said(events, "reasoning")) == (case.text, case.reasoning)
    if case.end == "done":
        assert isinstance(last, Done)
        assert (last.finish_reason, last.usage) == (case.finish_reason, case.usage)
    else:
        assert isinstance(last, Failed)
        assert last.code == case.end
    outcome = case.outcome or last.__struct_config__.tag
    counted = {name: count - before[name] for name, count in finished().items() if count != before[name]}
    assert counted == {outcome: 1}
    assert case.by_openai == ("the same" if by_openai == ours(case) else by_openai)


async def test_a_server_that_hangs_after_its_last_event_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    async with serving(response(HELLO + WORLD + end(), "Content-Length: 1000000"), hold=True) as raw:
        events = await answered(raw, tmp_path)
    assert said(events, "text") == "Hello world"
    assert isinstance(events[-1], Done)
    assert time.monotonic() - began < TIME_OUTS.silence


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
