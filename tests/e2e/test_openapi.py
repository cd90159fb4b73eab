"""The service conforms to its OpenAPI description for any request through nginx: no 5xx, no undeclared status.

A longer run: `FOLYAM_TEST_EXAMPLES=2000 FOLYAM_TEST_SEED=7 .venv/bin/python -m pytest tests/e2e/test_openapi.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import openapi_hooks
from tests.e2e.stack import ROOT, Nginx, Service
from tests.tables import Report
from tests.upstream.process import UpstreamProcess

KEY = "schema-0123456789abcdef"
EXAMPLES = os.environ.get("FOLYAM_TEST_EXAMPLES") or "40"
SEED = os.environ.get("FOLYAM_TEST_SEED") or "1"
LONG_SECONDS = 3600
CHECKS = """
[checks]
enabled = true

[[operations]]
include-path = "/v1/responses"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/v1/responses/{response_id}"
checks.positive_data_acceptance.enabled = false
"""
"""All checks, but of a body in another's form, of which the description has the outlines, only that it is no fault. A
number ahead of the answer is refused, which no description of a number can say."""


def test_schemathesis_finds_nothing_with_all_its_checks(
    tmp_path: Path, upstream: UpstreamProcess, web_root: Path, report: Report
) -> None:
    settings = {"FOLYAM_API_KEYS": KEY, "FOLYAM_MAX_ANSWERS_PER_CLIENT": "400", "FOLYAM_MODELS": "other-model"}
    with (
        Service(tmp_path, tmp_path / "answers", upstream.base_url, settings=settings) as service,
        Nginx(tmp_path, service.address, web_root) as nginx,
    ):
        url = f"http://{nginx.address}"
        environment = {
            "SCHEMATHESIS_HOOKS": "tests.e2e.openapi_hooks",
            openapi_hooks.URL: url,
            openapi_hooks.KEY: KEY,
            "NO_PROXY": "*",
        }
        # nginx does not serve the description.
        configuration = tmp_path / "schemathesis.toml"
        configuration.write_text(f'[auth.openapi.HTTPBearer]\nbearer = "{KEY}"\n{CHECKS}')
        program = Path(sys.executable).with_name("st")
        command = [str(program), "--config-file", str(configuration), "run", f"http://{service.address}/openapi.json"]
        command += ["--url", url, "--seed", SEED]
        command += ["--max-examples", EXAMPLES, "--continue-on-failure", "--no-color"]
        # A busy machine is slow at that, too.
        command += ["--suppress-health-check", "too_slow"]
        command += ["--generation-database", "none", "--report", "ndjson", "--report-dir", str(tmp_path)]
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=LONG_SECONDS,
            check=False,
        )
        access = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seen = {(line["method"], line["path"].rpartition("/")[2][:4], line["status"]) for line in access}
    statuses = {status for _, _, status in seen}
    assert {("POST", "stop", "200"), ("POST", "gene", "200"), ("GET", "gene", "200")} <= seen, "it came as far as this"
    assert {"200", "204", "400", "401", "404", "405", "422"} <= statuses
    assert not [status for status in statuses if status.startswith("5")]
    last = next(line for line in reversed(ended.stdout.splitlines()) if "generated" in line)
    report.add(f"seed {SEED}", last.strip(), f"{len(access)} requests")


@pytest.mark.parametrize(
    "path",
    [
        "/generate",
        "/answers/{answer_id}",
        "/answers/{answer_id}/stop",
        "/limits",
        "/livez",
        "/readyz",
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
        "/v1/chat/completions",
        "/v1/chat/completions/{completion_id}",
        "/v1/models",
        "/v1/models/{model_id}",
        "/ag-ui",
        "/ag-ui/capabilities",
        "/api/chat",
        "/api/chat/{chat}/stream",
        "/api/chat/{chat}/stop",
        "/v1/stream/{answer_id}",
    ],
)
def test_every_address_describes_its_errors(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.app import create_app  # noqa: PLC0415 (for this one alone)
    from service.config import Settings  # noqa: PLC0415

    monkeypatch.setenv("FOLYAM_LOG_URL", tmp_path.as_uri())
    description = create_app(Settings()).openapi()
    for operation in description["paths"][path].values():
        assert {"429", "500", "503"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
                assert "X-Request-Id" in response["headers"]
    assert "HTTPValidationError" not in json.dumps(description)
    assert '"owner"' not in json.dumps(description)
