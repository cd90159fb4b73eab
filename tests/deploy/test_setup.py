"""A second set-up changes nothing."""

import subprocess

from tests.e2e.stack import ROOT


def test_a_page_that_is_served_is_not_built_again_for_files_beside_its_sources() -> None:
    beside = ROOT / "frontend" / "types" / "left-by-a-check"
    beside.parent.mkdir(exist_ok=True)
    beside.touch()
    try:
        index = ROOT / "frontend" / "dist" / "index.html"
        before = index.stat().st_ino
        setup = subprocess.run(["deploy/local/setup.sh"], cwd=ROOT, check=True, capture_output=True, text=True)
        assert "Building" not in setup.stdout + setup.stderr
        assert index.stat().st_ino == before
    finally:
        beside.unlink()
