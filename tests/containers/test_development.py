"""deploy/compose/dev.yml: changes show without a restart by hand, and no answer is lost."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local import ports
from deploy.local.ports import Address
from tests.containers.following import follow_to_the_end
from tests.containers.project import Project, eventually
from tests.e2e.client import Client, script
from tests.e2e.logfile import assert_equals_log, read_log

CHUNKS = 100
PACE_SECONDS = 0.1
OVERRIDE = [Path("deploy") / "compose" / "dev.yml"]


def test_changes_show_and_running_answers_go_on(paced: Project, tmp_path: Path) -> None:
    port = ports.free().port
    settings = {"FOLYAM_PAGE_PORT": str(port)}
    paced.compose("up", "--detach", "--build", "--wait", overrides=OVERRIDE, environment=settings)
    page = Client(Address("127.0.0.1", port))

    with ThreadPoolExecutor() as threads:
        following = threads.submit(follow_to_the_end, paced.client, script(chunks=CHUNKS, pace=PACE_SECONDS))
        version = paced.directory / "service" / "__init__.py"
        version.write_text(re.sub(r'__version__ = ".*"', '__version__ = "7.7.7"', version.read_text()))

        def changed() -> bool:
            [service] = paced.replicas().values()
            try:
                return "7.7.7" in service.request("GET", "/metrics").body.decode()
            except OSError:
                return False

        eventually(changed)
        answer, pieces = following.result()
    log = read_log(paced.logs_directory(tmp_path), answer)
    assert_equals_log(*pieces, log=log)
    assert log[-1]["type"] == "done"

    assert b"/@vite/client" in page.request("GET", "/").body
    module = paced.directory / "frontend" / "src" / "page" / "main.js"
    module.write_text(f"{module.read_text()}\nexport const changed = 7;\n")
    eventually(lambda: b"changed = 7" in page.request("GET", "/src/page/main.js").body)
    assert page.generate(script(chunks=2)).events[-1]["type"] == "done"
