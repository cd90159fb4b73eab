"""An interpreter without profile-guided optimization is told, and not chosen if there is another one."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import interpreter

ROOT = Path(__file__).parents[1]
DEBIAN = "'--enable-shared' '--prefix=/usr' '--with-dtrace'"
PYENV = "'--prefix=/root/.pyenv/versions/3.11.7' '--enable-shared'"
OFFICIAL = "'--enable-loadable-sqlite-extensions' '--enable-optimizations' '--with-lto' '--with-ensurepip'"


def built(monkeypatch: pytest.MonkeyPatch, options: str | None, *schemes: str) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": options}.get)
    monkeypatch.setattr(sysconfig, "get_scheme_names", lambda: ("posix_prefix", *schemes))
    monkeypatch.setattr("platform.python_version", lambda: "3.13.5")


@pytest.mark.parametrize(
    ("options", "schemes", "described"),
    [
        (OFFICIAL, (), "3.13.5 (PGO, LTO)"),
        (DEBIAN, ("deb_system",), "3.13.5 (PGO)"),
        (PYENV, (), "3.13.5 (no PGO)"),
        (f"{PYENV} '--with-lto=thin'", (), "3.13.5 (no PGO, LTO)"),
        (None, (), "3.13.5 (no PGO)"),
    ],
)
def test_a_build_is_described_and_only_one_without_pgo_is_complained_of(
    monkeypatch: pytest.MonkeyPatch, options: str | None, schemes: tuple[str, ...], described: str
) -> None:
    built(monkeypatch, options, *schemes)
    assert interpreter.description() == described
    with capture_logs() as logs:
        interpreter.log_shortcoming()
    complaints = [log["complaint"] for log in logs]
    if "no PGO" in described:
        assert complaints == [interpreter.shortcoming()]
        assert "3.13.5 is built without profile-guided optimization" in interpreter.shortcoming()
    else:
        assert complaints == []
        assert interpreter.shortcoming() == ""


def fake(directory: Path, name: str, says: str) -> Path:
    """A program that tells this as an interpreter's rank, and is an interpreter in all else."""
    program = directory / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\n[ "$1" = -I ] && {says} && exit\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def chosen(*directories: Path) -> str:
    """The interpreter that setup.sh would choose with these first on PATH."""
    path = ":".join([*map(str, directories), "/usr/bin", "/bin"])
    command = ["deploy/local/setup.sh", "--python"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout.strip()


def test_the_newest_interpreter_with_pgo_is_chosen(tmp_path: Path) -> None:
    fake(tmp_path / "a", "python3", "echo 0 plain")
    fake(tmp_path / "a", "python3.12", "echo 96 older")
    fake(tmp_path / "b", "python3.13", "echo 97 newer")
    assert chosen(tmp_path / "a", tmp_path / "b") == "newer"


def test_debians_python3_is_chosen_behind_one_without_pgo(tmp_path: Path) -> None:
    fake(tmp_path / "a", "python3", "echo 0 plain")
    fake(tmp_path / "b", "python3", "echo 97 guided")
    assert chosen(tmp_path / "a", tmp_path / "b") == "guided"


def test_of_equals_the_first_python3_on_path_is_chosen(tmp_path: Path) -> None:
    fake(tmp_path / "a", "python3", "echo 98 first")
    fake(tmp_path / "a", "python3.12", "echo 98 second")
    fake(tmp_path / "b", "python3", "echo 98 third")
    assert chosen(tmp_path / "a", tmp_path / "b") == "first"


def test_an_interpreter_that_is_too_old_or_does_not_start_is_passed_over(tmp_path: Path) -> None:
    fake(tmp_path / "a", "python3", "echo 98 good")
    fake(tmp_path / "a", "python3.12", "echo broken >&2 && exit 1")
    old = fake(tmp_path / "a", "python3.11", "echo 99 old")
    old.write_text('#!/bin/sh\n[ "$1" = -I ] && echo 99 old\nexit 1\n')
    assert chosen(tmp_path / "a") == "good"


def test_an_interpreter_tells_setup_its_rank_and_its_path_without_any_package() -> None:
    told = subprocess.run(
        [sys.executable, "-I", "-S", "service/interpreter.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rank, path = told.stdout.split(maxsplit=1)
    assert int(rank) == interpreter.rank()
    assert Path(path.strip()).samefile(sys.executable)
