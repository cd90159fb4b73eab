"""gunicorn alone, as in a container, with what cannot work: it ends, with a sentence that names the setting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import ports
from tests.e2e.stack import KEPT, ROOT

CANNOT_LOAD = 4
END_SECONDS = 60


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start the service, which is to end by itself."""
    return subprocess.run(
        [Path(sys.executable).with_name("gunicorn"), "-c", "deploy/gunicorn.conf.py"],
        cwd=ROOT,
        env={name: os.environ[name] for name in KEPT if name in os.environ}
        | {
            "FOLYAM_BIND": str(ports.free()),
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
        ("FOLYAM_FALLBACK_BASE_URL", "http://:8000/v1"),
        ("OPENAI_API_KEY", "sk-é"),
        ("FOLYAM_WORKERS", "zero"),
        ("FOLYAM_DRAIN_SECONDS", "inf"),
        ("FOLYAM_BIND", "127.0.0.1:99999"),
        ("FOLYAM_API_KEYS", ""),
        ("FOLYAM_API_KEYS_FILE", ""),
    ],
)
def test_a_setting_that_cannot_work_is_a_sentence(tmp_path: Path, variable: str, value: str) -> None:
    ended = start(tmp_path, **{variable: value})
    assert ended.returncode == CANNOT_LOAD
    assert f"Folyam cannot start: {variable}: Should " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not value or value not in ended.stderr
