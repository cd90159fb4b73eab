"""The logs' directory: created if it is missing, rejected if another user could read, change or replace it.

Its files hold what people wrote. A user who owns or replaces the directory can read, forge and erase answers.
"""

import os
import stat
from pathlib import Path


class UnsafeDirectory(Exception):
    """The directory is not safe. The text says why, and what to do."""


def make_private(directory: Path) -> None:
    """Create the directory and its missing parents for this user only, or check the existing one.

    Raises:
        UnsafeDirectory: another user could read, change or replace it.
        OSError: it cannot be created.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):  # not `parents=True`, which gives parents the umask's mode
        each.mkdir(mode=0o700, exist_ok=True)
    _check_whole_way(directory)


def can_make_private(directory: Path) -> bool:
    """Return whether `make_private` would succeed in a new process, and leave a directory that it can write to.

    Landlock, which confines this process, is not asked.
    """
    place = directory
    try:
        while not os.path.lexists(place):
            place = place.parent
        if place == directory:
            _check_whole_way(directory)
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except (UnsafeDirectory, OSError):
        return False


def _check_whole_way(directory: Path) -> None:
    for each in {*directory.parents, *directory.resolve().parents}:
        _check_on_the_way(each, directory)
    _check(directory)


def _check(directory: Path) -> None:
    status = directory.lstat()
    groups = {os.getegid(), *os.getgroups()}
    by_group = bool(status.st_mode & stat.S_IWGRP)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeDirectory(f"{directory} is not a directory, or is a symbolic link: name the directory itself")
    # In Kubernetes, root owns a volume's root, and the service has it by its group (fsGroup).
    is_volume = status.st_uid == 0 and by_group and status.st_gid in groups
    if status.st_uid != os.geteuid() and not is_volume:
        raise UnsafeDirectory(f"{directory} belongs to user {status.st_uid}, and the service is user {os.geteuid()}")
    if status.st_mode & stat.S_IWOTH or (by_group and status.st_gid not in groups):
        raise UnsafeDirectory(f"{directory} can be written by other users: chmod go-w it, or name a directory in it")


def _check_on_the_way(each: Path, directory: Path) -> None:
    """Reject a parent directory or link that lets other users replace the logs' directory.

    A directory's owner and group are trusted: the administrator's, or the checkout's. An owner is not trusted where
    every user can create directories, as in /tmp, because owners can replace what is in theirs. The root of a volume is
    trusted: Kubernetes makes it writable for all (emptyDir), but only the service's containers see it.
    """
    status = each.lstat()
    place = each.parent.stat().st_mode
    for_all = place & stat.S_IWOTH and place & stat.S_ISVTX
    if stat.S_ISDIR(status.st_mode) and for_all and status.st_uid not in {0, os.geteuid()}:
        raise UnsafeDirectory(f"{each} is user {status.st_uid}'s, who could replace {directory}")
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in {0, os.geteuid()}:
        raise UnsafeDirectory(f"{each} is a symbolic link of user {status.st_uid}, who could lead it elsewhere")
    by_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if stat.S_ISDIR(status.st_mode) and by_all and not each.is_mount():
        raise UnsafeDirectory(f"{each} can be written by every user, who could replace {directory}: chmod o-w it")
