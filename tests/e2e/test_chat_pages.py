"""The examples of chat completions in README.md and docs/doors/chat.md run as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack
from tests.e2e.stack import ROOT

HERE = "http://localhost:8080/v1"
MODEL = "smollm2-135m-instruct"
WORDS = "".join(f"w{number} " for number in range(1, 9))


@pytest.mark.parametrize("page", ["README.md", "docs/doors/chat.md"])
def test_the_example_prints_the_answer(stack: Stack, page: str, tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(from openai import OpenAI\n.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert HERE in example
    assert MODEL in example
    program = example.replace(HERE, f"{stack.client.url}/v1").replace(MODEL, "test-model")
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, WORDS), ended.stderr
