"""Routers and gateways that PyPI carries, as stacks: what others take for passing the same answers on."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.bench.stacks import READY_SECONDS, Stack, ask_openai, free_port, process_of
from tests.bench.usage import children
from tests.upstream.process import ROOT, UpstreamProcess
from tests.upstream.script import command
from tests.upstream.server import MODEL

DIRECTORY = ROOT / "build" / "peers"
START_SECONDS = 4 * READY_SECONDS
"""LiteLLM imports for half a minute on a busy machine."""
POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Peer:
    """A program that passes chat completions on."""

    requirement: str
    """Its version; the versions of its dependencies are those of the day it is installed."""
    arguments: Callable[[str, int, Path], list[str]]
    """The arguments for the upstream's address, the port to listen on, and a directory to write to."""
    settings: Mapping[str, str] = field(default_factory=dict)


def _router(*before: str) -> Callable[[str, int, Path], list[str]]:
    def arguments(upstream: str, port: int, folder: Path) -> list[str]:
        del folder
        listen = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        return [*before, *listen, "--worker-urls", upstream, "--policy", "round_robin", "--log-level", "error"]

    return arguments


def _respan(upstream: str, port: int, folder: Path) -> list[str]:
    configuration = folder / "gateway.toml"
    provider = f'[providers.upstream]\nvendor = "openai"\nbase_url = "{upstream}/v1"\nkey = "none"\n'
    configuration.write_text(f'listen = "127.0.0.1:{port}"\nlog = "off"\nui = false\n{provider}')
    return ["--config", str(configuration)]


def _litellm(upstream: str, port: int, folder: Path) -> list[str]:
    configuration = folder / "config.yaml"
    parameters = f'{{model: openai/{MODEL}, api_base: "{upstream}/v1", api_key: none}}'
    configuration.write_text(f"model_list:\n  - model_name: {MODEL}\n    litellm_params: {parameters}\n")
    return ["--config", str(configuration), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]


PEERS = {
    "vllm-router": Peer("vllm-router==0.1.17", _router()),
    "smg": Peer("smg==1.13.0", _router("launch")),
    "respan-gateway": Peer("respan-gateway==0.3.0", _respan),
    "litellm": Peer(
        "litellm[proxy]==1.108.7",
        _litellm,
        # It does not start without a key for its administrators. Nobody else reaches this one.
        {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
    ),
}


@contextmanager
def peer(name: str, folder: Path, upstream: UpstreamProcess) -> Iterator[Stack]:
    """Install the program in an environment of its own if it is not there, and run it."""
    it = PEERS[name]
    program = _installed(it.requirement) / "bin" / name
    folder.mkdir(parents=True)
    port = free_port()
    with process_of([str(program), *it.arguments(upstream.address, port, folder)], it.settings, folder) as process:
        _wait_until_it_answers(port, process)
        yield Stack(name, ("127.0.0.1", port), ask_openai, (process.pid, *children(process.pid)))


def _installed(requirement: str) -> Path:
    environment = DIRECTORY / requirement
    if not (environment / "installed").exists():
        sys.stderr.write(f"bench: installing {requirement} into {environment}\n")
        uv = shutil.which("uv") or str(max(ROOT.glob("build/uv-*/bin/uv")))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True)
        python = environment / "bin" / "python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, requirement], check=True)
        (environment / "installed").touch()
    return environment


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for an answer: a router listens before it knows its upstream."""
    deadline = time.monotonic() + START_SECONDS
    _, _, body = ask_openai(command(chunks=1)).partition(b"\r\n\r\n")
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status == 200 and b"w1" in response.read():
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        if process.poll() is not None or time.monotonic() >= deadline:
            raise RuntimeError(f"{process.args!r} passes nothing on")
        time.sleep(POLL_SECONDS)
