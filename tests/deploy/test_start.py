"""A start with invalid settings ends with a sentence that names the setting."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter

from deploy.local import ports
from tests.e2e.stack import KEPT, ROOT, Service, eventually
from tests.starting import start

END_SECONDS = 60


def start_gunicorn(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start gunicorn alone, as in a container. It is to end by itself."""
    return subprocess.run(
        [Path(sys.executable).with_name("gunicorn"), "-c", "deploy/gunicorn.conf.py"],
        cwd=ROOT,
        env={name: os.environ[name] for name in KEPT if name in os.environ}
        | {
            "FOLYAM_BIND": str(ports.free()),
            # If two end by themselves at the same moment, gunicorn's master falls over the second.
            "FOLYAM_WORKERS": "1",
            "FOLYAM_LOG_URL": (tmp_path / "answers").as_uri(),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_BASE_URL", "localhost:11434/v1"),
        ("FOLYAM_WORKERS", "zero"),
        ("FOLYAM_DRAIN_SECONDS", "inf"),
        ("FOLYAM_BIND", "127.0.0.1:99999"),
    ],
)
def test_gunicorn_ends_with_a_sentence(tmp_path: Path, variable: str, value: str) -> None:
    ended = start_gunicorn(tmp_path, **{variable: value})
    assert ended.returncode == Arbiter.APP_LOAD_ERROR
    assert f"Folyam cannot start: {variable}: Should " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert value not in ended.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FOLYAM_RETRIES", "sk-secret"),
        ("FOLYAM_FALLBACK_BASE_URL", "http://:8000/v1"),
        ("OPENAI_BASE_URL", "http://upstream:99999/v1"),
        ("OPENAI_API_KEY", "sk-é"),
        ("FOLYAM_FALLBACK_API_KEY", "sk-1\r\nX-Evil: 1"),
        ("FOLYAM_MODEL", "not-utf-8-\udcff"),
        ("https_proxy", "socks5://proxy:port"),
        ("SSL_CERT_FILE", "/nowhere/authorities.pem"),
        ("FOLYAM_UPSTREAM_CERTIFICATE", "/nowhere/client.pem"),
        ("FOLYAM_UPSTREAM_CERTIFICATE_KEY", "/nowhere/client.key"),
        ("FOLYAM_API_KEYS", ""),
        ("FOLYAM_API_KEYS_FILE", ""),
    ],
)
def test_a_setting_that_cannot_work_is_a_sentence(tmp_path: Path, variable: str, value: str) -> None:
    ended = start(tmp_path, FOLYAM_LOG_URL=(tmp_path / "answers").as_uri(), **{variable: value})
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said.startswith(
        (f"Folyam cannot start: {variable}: Should ", f"Folyam cannot start: {variable}: Input should ")
    )
    assert ended.said.count("\n") == 1
    assert not value or value not in ended.said


def test_a_misspelt_variable_is_named_once_however_many_workers_there_are(tmp_path: Path) -> None:
    misspelt = {"FOLYAM_MODLE": "sk-secret"}
    with Service(tmp_path, tmp_path / "answers", "http://127.0.0.1:9/v1", workers=2, settings=misspelt) as service:
        eventually(lambda: service.started() == 2, END_SECONDS)
        log = service.log.read_text()
    [line] = [line for line in log.splitlines() if "unknown_variable" in line]
    assert json.loads(line)["name"] == "FOLYAM_MODLE"
    assert json.loads(line)["nearest"] == "FOLYAM_MODEL"
    assert "sk-secret" not in log
