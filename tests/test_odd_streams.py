"""Odd streams of upstreams, byte for byte over a socket, through the client and a producer into a log."""

import asyncio
import json
import time
from pathlib import Path

import openai
import pytest

from service.events import Delta, Done, Event, Failed
from service.question import to_request
from service.upstream.body import FINISHED_SECONDS, USAGE_SECONDS
from tests.sampling import sample
from tests.upstream.bodies import HELLO, USAGE, WORLD, data, end, response
from tests.upstream.odd_streams import CASES, FILES, Case
from tests.upstream.odd_streams import COUNTED as COUNTED_USAGE
from tests.upstream.piecewise import RawServer, serving
from tests.waiting import DEADLINE_SECONDS
from tests.working import TIME_OUTS, worker

MODEL = "test-model"
OUTCOMES = ("done", "stopped", "failed", "empty", "unknown")


def finished() -> dict[str, float]:
    """The metric of ended answers, by outcome."""
    return {outcome: sample("folyam_streams_finished_total", model=MODEL, outcome=outcome) for outcome in OUTCOMES}


async def answered(raw: RawServer, tmp_path: Path) -> list[Event]:
    """Ask the server; return the events of the answer's log."""
    async with worker(f"file://{tmp_path}/answers", raw, continuation="none", retries=1) as here:
        producer = await here.ask(to_request("hi", model=MODEL))
        return await here.follow(producer.answer_id)


def said(events: list[Event], voice: str) -> str:
    return "".join(getattr(event, voice) or "" for event in events if isinstance(event, Delta))


async def read_by_openai(raw: RawServer) -> str:
    """What the openai package makes of the response."""
    text, reason, usage = "", None, None
    # Without the certificates of authorities: reading them takes longer than all else here.
    plain = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(api_key="key", base_url=raw.base_url, max_retries=0, http_client=plain) as client:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
                )
                async with stream:
                    async for chunk in stream:
                        usage = chunk.usage or usage
                        for choice in chunk.choices:
                            text += choice.delta.content or ""
                            reason = choice.finish_reason or reason
        except Exception as error:  # noqa: BLE001 (the class is the result)
            return f"{text!r}, then {type(error).__name__}"
    return f"{text!r}, {reason}" + (", usage" if usage else "")


def ours(case: Case) -> str:
    """What Folyam makes of the response, in the same form."""
    if case.end != "done":
        return f"{case.text!r}, then {case.end}"
    return f"{case.text!r}, {case.finish_reason or None}" + (", usage" if case.usage else "")


def table() -> dict[str, tuple[str, str]]:
    """The rows of cases/README.md, by the case: what the openai package makes of it, and why."""
    lines = (FILES / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][2:]
    return {name.strip("`"): (result.strip("`"), why) for name, result, why in rows}


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
    same = by_openai == ours(case)
    result, why = table()[case.name]
    assert (result, why != "") == ("the same" if same else by_openai, not same)


COUNTED = data(json.dumps({"choices": [], "usage": USAGE}))


@pytest.mark.parametrize(
    ("rest", "header", "seconds"),
    [
        pytest.param(end() + COUNTED, "", FINISHED_SECONDS, id="hang-after-finish"),
        pytest.param(end(), "", USAGE_SECONDS, id="hang-after-finish: without usage"),
        pytest.param(
            end("length") + COUNTED, "Content-Length: 1000000", FINISHED_SECONDS, id="hang-after-finish: framed"
        ),
        pytest.param(end(usage=USAGE), "", FINISHED_SECONDS, id="hang-after-finish: all in one event"),
    ],
)
async def test_a_server_that_hangs_after_its_finish_is_not_waited_for(
    rest: bytes, header: str, seconds: float, tmp_path: Path
) -> None:
    began = time.monotonic()
    async with serving(response(HELLO + WORLD + rest, *filter(None, [header])), hold=True) as raw:
        events = await answered(raw, tmp_path)
        assert raw.asked == 1
    assert said(events, "text") == "Hello world"
    assert isinstance(events[-1], Done)
    assert events[-1].usage == (COUNTED_USAGE if b"usage" in rest else None)
    assert seconds <= time.monotonic() - began < TIME_OUTS.silence


def test_the_table_has_exactly_the_cases() -> None:
    assert list(table()) == [case.name for case in CASES]


def test_each_file_has_a_case_and_each_case_two_siblings() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    files = {path.stem for path in FILES.glob("*.http")}
    assert files <= set(names)
    for name in files:
        assert len([each for each in names if each.startswith(f"{name}: ")]) >= 2, name
