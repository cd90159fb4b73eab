"""Other people's clients for chat completions, in their own environment: one job a line, one result a line, as JSON.

`python chat_clients.py NAME`, with a name of `CLIENTS`. A job has `base_url`, `query`, `stream` and perhaps `key`,
`model` and `tools`. A result has what the client made of the answer, or the classes of its exception and its message.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Result = dict[str, Any]

KEY = "a-client-of-the-tests-0123456789"


def with_openai() -> Callable[[Job], Result]:
    """OpenAI's SDK."""
    import openai

    def ask(job: Job) -> Result:
        client = openai.OpenAI(base_url=job["base_url"], api_key=job["key"], max_retries=0)
        asked = {"model": job["model"], "messages": [{"role": "user", "content": job["query"]}]}
        if "tools" in job:
            asked["tools"] = job["tools"]
        if not job["stream"]:
            completion = client.chat.completions.create(**asked)
            assert client.chat.completions.retrieve(completion.id) == completion
            return of_completion(completion)
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            for _ in stream:
                pass
            return of_completion(stream.get_final_completion())

    return ask


def of_completion(completion: Any) -> Result:  # noqa: ANN401 (of the SDK, or LiteLLM's like it)
    """Return the result for a ChatCompletion."""
    [choice] = completion.choices
    message = choice.message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return {
        "text": message.content,
        "reasoning": getattr(message, "reasoning_content", None),
        "calls": calls,
        "finish_reason": choice.finish_reason,
        "tokens": completion.usage.total_tokens,
    }


def with_langchain() -> Callable[[Job], Result]:
    """LangChain's chat model, which stands on OpenAI's SDK. It has no field for reasoning."""
    from langchain_openai import ChatOpenAI

    def ask(job: Job) -> Result:
        model: Any = ChatOpenAI(
            base_url=job["base_url"], api_key=job["key"], model=job["model"], max_retries=0, stream_usage=True
        )
        if "tools" in job:
            model = model.bind_tools(job["tools"])
        if job["stream"]:
            first, *rest = model.stream(job["query"])
            message = sum(rest, first)
        else:
            message = model.invoke(job["query"])
        return {
            "text": message.text,
            "reasoning": None,
            "calls": [(call["name"], call["args"]) for call in message.tool_calls],
            "finish_reason": message.response_metadata["finish_reason"],
            "tokens": message.usage_metadata["total_tokens"],
        }

    return ask


def with_litellm() -> Callable[[Job], Result]:
    """LiteLLM, with its provider for OpenAI-compatible servers."""
    import litellm

    litellm.suppress_debug_info = True

    def ask(job: Job) -> Result:
        response = litellm.completion(
            model=f"openai/{job['model']}",
            api_base=job["base_url"],
            api_key=job["key"],
            messages=[{"role": "user", "content": job["query"]}],
            tools=job.get("tools"),
            stream=job["stream"],
            stream_options={"include_usage": True} if job["stream"] else None,
            max_retries=0,
        )
        return of_completion(litellm.stream_chunk_builder(list(response)) if job["stream"] else response)

    return ask


def with_llm() -> Callable[[Job], Result]:
    """The command line tool `llm`, by its Python interface."""
    import llm

    home = Path(os.environ["LLM_USER_PATH"])

    def ask(job: Job) -> Result:
        model = {
            "model_id": "folyam",
            "model_name": job["model"],
            "api_base": job["base_url"],
            "supports_tools": True,
            "api_key_name": "folyam",
        }
        (home / "extra-openai-models.yaml").write_text(json.dumps([model]))
        tools = [
            llm.Tool(each["function"]["name"], input_schema=each["function"]["parameters"])
            for each in job.get("tools", ())
        ]
        response = llm.get_model("folyam").prompt(job["query"], stream=job["stream"], key=job["key"], tools=tools)
        text = response.text()
        usage = response.usage()
        return {
            "text": text,
            "reasoning": None,
            "calls": [(call.name, call.arguments) for call in response.tool_calls()],
            "finish_reason": (response.response_json or {}).get("finish_reason"),
            "tokens": (usage.input or 0) + (usage.output or 0),
        }

    return ask


CLIENTS = {"openai": with_openai, "langchain": with_langchain, "litellm": with_litellm, "llm": with_llm}


def main() -> None:
    """Serve the jobs of the standard input until it ends."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLM_USER_PATH"] = home
        ask = CLIENTS[sys.argv[1]]()
        for line in sys.stdin:
            job = {"key": KEY, "model": "test-model", **json.loads(line)}
            try:
                result = ask(job)
            except Exception as error:  # noqa: BLE001 (whatever the client raises)
                result = {"error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
            print(json.dumps(result), flush=True)  # noqa: T201 (this is the result)


main()
