"""Durable Streams' conformance suite, its reader's side, through an adapter that writes answers by asking for them."""

import json
import os
import subprocess
from pathlib import Path

from tests.clients.durable_streams_adapter import Adapter
from tests.e2e.stack import NODE, ROOT, Nginx, Service
from tests.tables import Report

DIRECTORY = ROOT / "tests" / "clients"
LONG_SECONDS = 300

GROUPS = (
    "Read Operations",
    "Long-Poll Operations",
    "Browser Security Headers",
    "HEAD Metadata should",
    "Offset Validation and Resumability",
    "Long-Poll Edge Cases",
    "Caching and ETag",
    "Read-Your-Writes Consistency",
    "SSE Mode",
    "Stream Closure HEAD with Stream Closure",
    "Stream Closure Read Closed Streams",
    "Stream Closure Long-poll with Stream Closure",
    "Stream Closure SSE with Stream Closure",
)
"""How the names of the reader's tests begin. All other tests of the suite write streams, or fork them."""

WRITERS = frozenset(
    {
        "Browser Security Headers should include X-Content-Type-Options: nosniff on PUT responses",
        "Browser Security Headers should include X-Content-Type-Options: nosniff on POST responses",
    }
)
"""Those among them that look at a writer's response, which is the adapter's own."""
READERS = 92


def test_the_readers_side_passes(tmp_path: Path, web_root: Path, report: Report) -> None:
    settings = {
        "FOLYAM_HEARTBEAT_SECONDS": "1",
        "FOLYAM_UNWATCHED_SECONDS": "600",
        "FOLYAM_MAX_ANSWERS": "1000",
        "FOLYAM_CORS_ORIGINS": "https://example.com",
    }
    with (
        Adapter() as adapter,
        Service(tmp_path, tmp_path / "answers", adapter.base_url, settings=settings) as service,
        Nginx(tmp_path, service.address, web_root) as nginx,
    ):
        adapter.service = nginx.address
        ran = run_suite(adapter.address, tmp_path / "suite.json")
    failed = {name: why for name, (status, why) in ran.items() if status == "failed"}
    passed = [name for name, (status, _) in ran.items() if status == "passed"]
    assert failed.keys() == WRITERS, json.dumps(failed, indent=1)
    assert len(passed) == READERS - len(WRITERS)
    report.add(f"{len(passed)} passed", f"{len(WRITERS)} of the writer's side")


def run_suite(address: str, results: Path) -> dict[str, tuple[str, str]]:
    """Run the reader's tests; return each one's status, and why it failed, by its name."""
    program = DIRECTORY / "node_modules" / "vitest" / "vitest.mjs"
    pattern = f"^({'|'.join(GROUPS)})"
    ended = subprocess.run(
        [NODE, program, "run", "--reporter=json", f"--outputFile={results}", "--testTimeout=30000", "-t", pattern],
        cwd=DIRECTORY,
        env={**os.environ, "FOLYAM_TEST_URL": address, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=LONG_SECONDS,
        check=False,
    )
    assert results.is_file(), ended.stdout + ended.stderr
    files = json.loads(results.read_text())["testResults"]
    tests = [test for file in files for test in file["assertionResults"]]
    return {test["fullName"]: (test["status"], "\n".join(test["failureMessages"])) for test in tests}
