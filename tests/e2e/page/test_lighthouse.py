"""Lighthouse's opinion of the page, in every category that it has."""

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Stack
from tests.e2e.page.conftest import CHROMIUM_ARGUMENTS, chromium
from tests.e2e.stack import ROOT

LIGHTHOUSE = ROOT / "frontend" / "node_modules" / ".bin" / "lighthouse"
LEAST = 0.95
SECONDS = 180


@pytest.mark.parametrize("device_kind", ["mobile", "desktop"])
def test_lighthouse_gives_at_least_95_in_every_category(
    device_kind: str, page_stack: Stack, show: Callable[[str, str], None]
) -> None:
    command = [
        str(LIGHTHOUSE),
        f"http://{page_stack.nginx.address}/",
        "--output=json",
        "--output-path=stdout",
        "--quiet",
        "--no-enable-error-reporting",
        f"--chrome-flags={' '.join(('--headless=new', *CHROMIUM_ARGUMENTS))}",
        *(["--preset=desktop"] if device_kind == "desktop" else []),
    ]
    environment = {**os.environ, "CHROME_PATH": chromium()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    categories = json.loads(done.stdout)["categories"]
    scores = {name: category["score"] for name, category in categories.items()}
    show("Lighthouse", f"{device_kind}: " + ", ".join(f"{name} {score * 100:.0f}" for name, score in scores.items()))
    assert scores
    assert {name: score for name, score in scores.items() if score < LEAST} == {}
