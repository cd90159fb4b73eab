"""A small disk and a full disk. Mounting requires root, which continuous integration has."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def can_mount() -> bool:
    """Return whether a small disk can be mounted on this machine."""
    return (
        os.geteuid() == 0
        and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
    )


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """Mount a disk of this size at the directory."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Fill the disk of the directory."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            for size in (1 << 16, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            yield
        finally:
            filler.unlink(missing_ok=True)
