"""The log's directory is this user's own, and no other user can put another in its place."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter

from service.eventlog.files.directory import UnsafeDirectory, can_make_private, make_private
from tests.starting import start

ANOTHER_USER = 54_321
FORMS = "Should be file:///<absolute path> or valkey://<host>:<port>"
"""What is said of a URL that no backend knows."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to others")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        make_private(tmp_path / "state" / "folyam" / "answers")
    finally:
        os.umask(umask)
    assert [mode(path) for path in (tmp_path / "state").rglob("*")] == [0o700, 0o700]
    assert mode(tmp_path / "state") == 0o700
    make_private(tmp_path / "state" / "folyam" / "answers")


@pytest.mark.parametrize("given", [0o700, 0o755, 0o770, 0o2770])
def test_one_that_is_this_users_is_taken_as_it_is(tmp_path: Path, given: int) -> None:
    directory = tmp_path / "answers"
    directory.mkdir()
    directory.chmod(given)  # 0o2770 is what a change of Kubernetes' fsGroup makes of it
    make_private(directory)
    assert mode(directory) == given


def writable_for_all(directory: Path) -> None:
    directory.chmod(0o777)


def writable_for_all_and_sticky(directory: Path) -> None:
    directory.chmod(0o1777)


def of_another_user(directory: Path) -> None:
    os.chown(directory, ANOTHER_USER, -1)


def writable_for_a_group_of_others(directory: Path) -> None:
    os.chown(directory, -1, ANOTHER_USER)
    directory.chmod(0o770)


def a_symbolic_link(directory: Path) -> None:
    target = directory.rename(directory.with_name("target"))
    directory.symlink_to(target)


def a_file(directory: Path) -> None:
    directory.rmdir()
    directory.touch()


def in_a_place_for_all(directory: Path) -> None:
    directory.parent.chmod(0o777)


def made_by_another_user_in_a_place_for_all(directory: Path) -> None:
    os.chown(directory.parent, ANOTHER_USER, -1)
    directory.parent.chmod(0o1777)
    directory.parent.parent.chmod(0o1777)


def behind_a_link_of_another_user(directory: Path) -> None:
    parent = directory.parent
    target = parent.rename(parent.with_name("target"))
    parent.symlink_to(target)
    os.lchown(parent, ANOTHER_USER, -1)


def behind_a_link_into_a_place_for_all(directory: Path) -> None:
    parent = directory.parent
    shared = parent.with_name("shared")
    shared.mkdir()
    target = parent.rename(shared / "target")
    shared.chmod(0o777)
    parent.symlink_to(target)


@pytest.mark.parametrize(
    "unsafe",
    [
        writable_for_all,
        writable_for_all_and_sticky,
        pytest.param(of_another_user, marks=as_root),
        pytest.param(writable_for_a_group_of_others, marks=as_root),
        a_symbolic_link,
        a_file,
        in_a_place_for_all,
        pytest.param(made_by_another_user_in_a_place_for_all, marks=as_root),
        pytest.param(behind_a_link_of_another_user, marks=as_root),
        behind_a_link_into_a_place_for_all,
    ],
)
def test_one_that_others_may_have_a_hand_in_is_refused(tmp_path: Path, unsafe: Callable[[Path], None]) -> None:
    directory = tmp_path / "state" / "answers"
    directory.mkdir(parents=True)
    assert can_make_private(directory)
    unsafe(directory)
    with pytest.raises(UnsafeDirectory):
        make_private(directory)
    assert not can_make_private(directory)


def test_one_that_is_missing_can_be_made_unless_its_way_is_a_file(tmp_path: Path) -> None:
    assert can_make_private(tmp_path / "state" / "answers")
    assert not list(tmp_path.iterdir())
    (tmp_path / "state").touch()
    assert not can_make_private(tmp_path / "state" / "answers")


@as_root
def test_another_users_directory_may_lead_to_it_unless_any_user_could_have_made_it(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    os.chown(checkout, ANOTHER_USER, -1)
    make_private(checkout / "build" / "answers")


def test_a_sticky_place_for_all_and_a_link_of_ones_own_may_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "link").symlink_to("sticky")
    make_private(tmp_path / "link" / "answers")
    assert mode(tmp_path / "sticky" / "answers") == 0o700


@as_root
def test_a_volume_that_is_the_services_by_its_group_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, 0, ANOTHER_USER)
    tmp_path.chmod(0o2770)
    monkeypatch.setattr(os, "geteuid", lambda: ANOTHER_USER)
    with pytest.raises(UnsafeDirectory, match="belongs to user 0"):
        make_private(tmp_path)
    monkeypatch.setattr(os, "getgroups", lambda: [ANOTHER_USER])
    make_private(tmp_path)


def test_the_root_of_a_volume_may_be_writable_for_all_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o2777)  # Kubernetes' emptyDir with an fsGroup
    with pytest.raises(UnsafeDirectory, match="could replace"):
        make_private(tmp_path / "answers")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    make_private(tmp_path / "answers")


def test_the_service_does_not_start_with_one_that_others_can_write(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.mkdir()
    answers.chmod(0o777)
    ended = start(tmp_path, FOLYAM_LOG_URL=answers.as_uri())
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said == (
        "Folyam cannot start: FOLYAM_LOG_URL: Should be a directory that only this user can write: "
        f"{answers} can be written by other users: chmod go-w it, or name a directory in it\n"
    )


@pytest.mark.parametrize("url", ["/srv/answers", "file:///srv?answers"])
def test_the_service_does_not_start_with_a_logs_address_that_means_another_place(tmp_path: Path, url: str) -> None:
    ended = start(tmp_path, FOLYAM_LOG_URL=url, HOME=str(tmp_path))
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said == f"Folyam cannot start: FOLYAM_LOG_URL: {FORMS}\n"


def test_a_logs_address_in_a_file_is_named_by_the_files_variable(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("nowhere://:canary@host\n")
    ended = start(tmp_path, FOLYAM_LOG_URL_FILE=str(file), HOME=str(tmp_path))
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said == f"Folyam cannot start: FOLYAM_LOG_URL_FILE: {FORMS}\n"


def test_the_service_does_not_start_where_its_default_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").touch()  # as little of a directory as /nonexistent, which system users have
    ended = start(tmp_path, HOME=str(tmp_path / "home"))
    assert ended.status == Arbiter.APP_LOAD_ERROR
    assert ended.said.startswith("Folyam cannot start: FOLYAM_LOG_URL: Should be a directory that can be written: ")
    assert f"{tmp_path}/home" in ended.said
