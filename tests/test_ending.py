import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import DEADLINE_SECONDS, POLL_SECONDS

ROOT = Path(__file__).parents[1]
STARTS = """
import pathlib, sys, time
from tests.valkey import ValkeyServer
server = ValkeyServer(pathlib.Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(1000)
"""


def test_a_server_ends_with_tests_that_are_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS, str(tmp_path / "valkey")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        server = Path("/proc") / tests.stdout.readline().strip()
        assert server.joinpath("comm").read_text().startswith("valkey")
        tests.kill()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while server.exists() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert not server.exists()
