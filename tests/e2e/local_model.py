"""The local model of `make run` behind llama.cpp's own server, in a process of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import ports
from deploy.local.model import NAME
from tests.e2e.stack import Program, eventually

LOADING_SECONDS = 180
KEY = "a-key-that-must-not-be-seen"


@contextmanager
def local_model(directory: Path) -> Iterator[ports.Address]:
    """Serve the model at the address, for requests with KEY."""
    address = ports.free()
    environment = {"OPENAI_API_KEY": KEY}
    if (Path("build") / "lib").is_dir():
        environment["LD_LIBRARY_PATH"] = f"{Path('build/lib').resolve()}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    # Threads spin while they wait for each other. Beside other tests, 200 tokens took two threads 22 to 112 s, and take
    # one 4 s.
    command = [sys.executable, "-m", "deploy.local.model", "--port", str(address.port), "--threads", "1"]
    with Program(command, environment, directory / "model.log") as model:
        eventually(lambda: NAME in model.log.read_text(), LOADING_SECONDS)
        yield address
