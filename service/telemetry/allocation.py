"""Values of metrics in fully allocated files, so that no write to them can fail.

prometheus_client keeps values in mapped files, which it creates and grows with holes. A write to a hole takes a block
from the disk. On a full disk the kernel then kills the process with SIGBUS. So this module allocates a file's blocks
before prometheus_client writes an entry into it. If the disk has no room, the value is kept in memory only: a worker
that serves uncounted is better than no worker.
"""

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict, values

FIRST_BYTES = 1 << 16
"""Initial size of a file. prometheus_client doubles it when it is full."""
HEAD_BYTES = 8
BESIDE_THE_KEY_BYTES = 4 + 8 + 16
"""Maximum bytes of an entry beside its key: the key's length, its padding, the value and its timestamp."""

_VALUE = struct.Struct("dd")
"""A value and its timestamp, as they are in a file."""

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A value's name and its labels."""


class AllocatedValues:
    """Create the values of one process's metrics in the files of its slot. `on_error` gets each failed allocation."""

    def __init__(self, directory: Path, number: int, on_error: Callable[[OSError], None]) -> None:
        self._directory = directory
        self._number = number
        self._on_error = on_error
        self._mapped = _without_lock(values.MultiProcessValue(lambda: number))  # type: ignore[no-untyped-call]
        self._allocated: dict[Path, int] = {}
        self.inherited: dict[Sample, float] = {}
        """What counters and histograms of the slot's earlier processes had counted, which this one's go on from."""

    def __call__(
        self,
        kind: str,
        metric: str,
        name: str,
        labels: Sequence[str],
        label_values: Sequence[str],
        description: str,
        multiprocess_mode: str = "",
        **more: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 (prometheus_client has no type for it)
        """Return a value: in its file if the disk has room, else in memory."""
        group = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        key = mmap_dict.mmap_key(metric, name, list(labels), list(label_values), description)
        try:
            self._make_room(self._directory / f"{group}_{self._number}.db", len(key.encode()) + BESIDE_THE_KEY_BYTES)
            made = self._mapped
        except OSError as error:
            self._on_error(error)
            made = values.MutexValue
        value = made(kind, metric, name, labels, label_values, description, multiprocess_mode=multiprocess_mode, **more)
        if kind != "gauge" and (counted := value.get()):
            self.inherited[name, tuple(zip(labels, label_values, strict=True))] = counted
        return value

    def _make_room(self, path: Path, entry_bytes: int) -> None:
        if not path.exists() or not path.stat().st_size:
            self._create(path)
        with path.open("r+b") as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            used = max(HEAD_BYTES, *struct.unpack("i", os.pread(descriptor, 4, 0)))
            while used + entry_bytes > size:
                size *= 2
            if size > self._allocated.get(path, 0):
                os.posix_fallocate(descriptor, 0, size)
                self._allocated[path] = size

    def _create(self, path: Path) -> None:
        """Create a file with its first blocks. A scrape fails on an empty one, so it gets its name once it has them."""
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, FIRST_BYTES)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise


def _without_lock(mapped: Any) -> Any:  # noqa: ANN401 (a class that prometheus_client makes)
    """Return the class with a cheaper `inc`, which an answer calls 15 times.

    prometheus_client takes a lock and looks at the process id, and for the value's place. Here the event loop's thread
    counts everything but the deaths of workers, which only a scrape counts, and the slot takes the place of the process
    id. A value's place never changes. `tests/test_allocation.py` checks that this writes where the library reads.
    """

    class Value(mapped):  # type: ignore[misc]
        _value: float

        def __init__(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **more)
            begin = self._file._positions[self._key]  # noqa: SLF001
            self._place = slice(begin, begin + _VALUE.size)

        def inc(self, amount: float) -> None:
            self._value = value = self._value + amount
            # The mapping is another one when the file has grown.
            self._file._m[self._place] = _VALUE.pack(value, 0.0)  # noqa: SLF001

    return Value
