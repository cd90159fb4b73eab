"""Other people's clients for chat completions, unmodified: which class an error has in each."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import Address
from tests.clients.conftest import Stack
from tests.e2e.client import script
from tests.e2e.cutter import Cutter
from tests.e2e.stack import NODE, ROOT, Nginx, Service
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

HERE = ROOT / "tests" / "clients"
PYTHON = ROOT / "build" / "clients" / "bin" / "python"
OFFLINE = {"NO_PROXY": "*", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""LiteLLM reads a list of prices from the network otherwise."""

PROGRAMS: dict[str, list[str]] = {
    "openai": [str(PYTHON), str(HERE / "chat_clients.py"), "openai"],
    "openai-js": [str(NODE), str(HERE / "openai-sdk.mjs")],
    "langchain": [str(PYTHON), str(HERE / "chat_clients.py"), "langchain"],
    "litellm": [str(PYTHON), str(HERE / "chat_clients.py"), "litellm"],
    "llm": [str(PYTHON), str(HERE / "chat_clients.py"), "llm"],
}

CALLS = [
    {"name": "weather", "arguments": ['{"city":', '"Győr"}']},
    {"name": "time", "arguments": ["{", "}"]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A tool of the tests.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "time")
]

Job = dict[str, Any]
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=PROGRAMS)
def name(request: pytest.FixtureRequest) -> str:
    client: str = request.param
    return client


@pytest.fixture(scope="module")
def program(name: str) -> Iterator["subprocess.Popen[str]"]:
    """The client's process, which serves jobs until the module's end."""
    with subprocess.Popen(
        PROGRAMS[name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, **OFFLINE},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def ask(program: "subprocess.Popen[str]", stack: Stack) -> Ask:
    """Ask through the client: by default at nginx."""

    def ask(query: str, *, stream: bool, at: Address = stack.nginx.address, **more: object) -> dict[str, Any]:
        assert program.stdin is not None
        assert program.stdout is not None
        job = {"base_url": f"http://{at}/v1", "query": query, "stream": stream, **more}
        program.stdin.write(json.dumps(job) + "\n")
        program.stdin.flush()
        result: dict[str, Any] = json.loads(program.stdout.readline())
        return result

    return ask


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@both
def test_it_has_the_answer_and_its_reasoning(ask: Ask, name: str, *, stream: bool) -> None:
    seen = ask(script(reasoning=["Hm, ", "Győr"], texts=["Szia", " világ", "\n"]), stream=stream)
    assert seen["text"] == "Szia világ\n"
    # LangChain's class and llm have no field for it.
    assert seen["reasoning"] == (None if name in ("langchain", "llm") else "Hm, Győr")
    assert seen["calls"] == []
    # llm keeps it of streams alone.
    assert seen["finish_reason"] == (None if name == "llm" and not stream else "stop")
    assert seen["tokens"] > 0


@both
def test_it_has_two_calls_of_tools_side_by_side(ask: Ask, name: str, *, stream: bool) -> None:
    seen = ask(script(chunks=0, tool_calls=CALLS), stream=stream, tools=TOOLS)
    assert seen["calls"] == [["weather", {"city": "Győr"}], ["time", {}]]
    assert seen["finish_reason"] == (None if name == "llm" and not stream else "tool_calls")


OVERFLOW = {
    "message": "Input tokens exceed the configured limit of 8192 tokens. This model's maximum context length is 8192.",
    "type": "invalid_request_error",
    "code": "context_length_exceeded",
}
BEFORE: dict[str, Job] = {
    "another key": {"key": "no-such-key-0123456789"},
    "another model": {"model": "no-such-model"},
    "400 of the upstream": {"status": 400, "error": {"message": "no such tool", "code": "bad_tool"}},
    "too long": {"status": 400, "error": OVERFLOW},
    "429 of the upstream": {"status": 429},
    "500 of the upstream": {"status": 500},
}
"""What is refused before an answer begins: fields of the job, or of the upstream's script."""
LATER: dict[str, Job] = {
    "an error in the middle": {"chunks": 8, "pace": 0.05, "error_after": 3},
    "the upstream is cut": {"chunks": 8, "pace": 0.05, "cut_after": 3},
    "a word for failure": {"chunks": 3, "finish_reason": "error"},
}
CLASSES: dict[str, dict[str, str]] = {
    "openai": {
        "another key": "AuthenticationError",
        "another model": "NotFoundError",
        "400 of the upstream": "BadRequestError",
        "too long": "BadRequestError",
        "429 of the upstream": "RateLimitError",
        "500 of the upstream": "InternalServerError",
        "later, stream": "APIError",
        "later, whole": "InternalServerError",
        "cut": "APIConnectionError",
    },
    "langchain": {
        "another key": "OpenAIAuthenticationError",
        "another model": "OpenAIModelNotFoundError",
        "400 of the upstream": "OpenAIInvalidRequestError",
        "too long": "OpenAIContextOverflowError",
        "429 of the upstream": "OpenAIRateLimitError",
        "500 of the upstream": "OpenAIAPIError",
        "later, stream": "APIError",
        "later, whole": "OpenAIAPIError",
        "cut": "OpenAIConnectionError",
    },
    "litellm": {
        "another key": "AuthenticationError",
        "another model": "NotFoundError",
        "400 of the upstream": "BadRequestError",
        "too long": "ContextWindowExceededError",
        "429 of the upstream": "RateLimitError",
        "500 of the upstream": "BadGatewayError",
        "later, stream": "MidStreamFallbackError",
        "later, whole": "BadGatewayError",
        "cut": "MidStreamFallbackError",
    },
}
CLASSES["llm"] = CLASSES["openai"]
CLASSES["openai-js"] = {**CLASSES["openai"], "cut": "OpenAIError"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamProcess, web_root: Path) -> Iterator[Nginx]:
    """A service that asks for a key and tries nothing twice."""
    directory = tmp_path_factory.mktemp("keyed")
    settings = {"FOLYAM_API_KEYS": "a-client-of-the-tests-0123456789", "FOLYAM_RETRIES": "0"}
    with (
        Service(directory, directory / "answers", upstream.base_url, settings=settings) as service,
        Nginx(directory, service.address, web_root) as nginx,
    ):
        yield nginx


@both
@pytest.mark.parametrize("case", BEFORE)
def test_a_refusal_has_the_class_that_tells_what_to_do(
    ask: Ask, name: str, keyed: Nginx, case: str, report: Report, *, stream: bool
) -> None:
    given = BEFORE[case]
    job = {field: value for field, value in given.items() if field in ("key", "model")}
    query = script(**given) if not job else "x"
    seen = ask(query, stream=stream, at=keyed.address, **job)
    assert seen["error"][0] == CLASSES[name][case]
    if "error" in given:
        assert given["error"]["message"] in seen["message"], "the upstream's own words"
    if stream:
        report.add(name, case, seen["error"][0])


@both
@pytest.mark.parametrize("case", LATER)
def test_what_fails_in_the_middle_raises(
    ask: Ask, name: str, keyed: Nginx, case: str, report: Report, *, stream: bool
) -> None:
    seen = ask(script(**LATER[case]), stream=stream, at=keyed.address)
    assert seen["error"][0] == CLASSES[name]["later, stream" if stream else "later, whole"]
    report.add(name, f"{case}, {'stream' if stream else 'whole'}", seen["error"][0])


def test_a_stream_that_is_cut_raises(ask: Ask, name: str, stack: Stack, report: Report) -> None:
    with Cutter(stack.nginx.address, iter([2000])) as cutter:
        seen = ask(script(chunks=100, pace=0.01), stream=True, at=cutter.address)
    assert cutter.cuts == 1
    assert seen["error"][0] == CLASSES[name]["cut"]
    report.add(name, "the network is cut", seen["error"][0])


def test_the_command_line_tool_prints_the_answer(stack: Stack, tmp_path: Path) -> None:
    model = {"model_id": "folyam", "model_name": "test-model", "api_key_name": "folyam"}
    model["api_base"] = f"http://{stack.nginx.address}/v1"
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([model]))
    printed = subprocess.run(
        [PYTHON.with_name("llm"), "-m", "folyam", "--key", "any", script(texts=["Szia", " világ"])],
        env={**os.environ, **OFFLINE, "LLM_USER_PATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (printed.returncode, printed.stdout) == (0, "Szia világ\n"), printed.stderr
