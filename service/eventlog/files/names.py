"""Names of answers: a file beside the logs for each name, `<name>.name`, one line of JSON for each answer of the name.

A worker that creates an answer under a name holds a kernel lock on the name's file from before it looks at what the
name stands for until the log is there. If the worker dies, the lock is gone. Its line may be there without its log: the
name is then free, as after the log was erased.

Lines are appended, also the note that an answer was delivered, for which no lock is taken. Of an answer's lines the
last one counts.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from service.errors import Unavailable
from service.eventlog.base import NameTakenError
from service.eventlog.files.locks import LEASE, lock
from service.names import NAME_LENGTH, Named, Naming

LOCK_SECONDS = 2.0
"""Longest wait for another worker, which holds a lock while it creates a log: a millisecond, unless it is stopped."""
LOCK_POLL_SECONDS = 0.002
MOST_READ = 1 << 16
"""Bytes read of a name."""
MOST_BYTES = 1 << 13
"""Length from which a name is written anew, with the answers that are still there."""
MOST_ANSWERS = 16
"""Answers of a name that are kept then, the newest ones."""

SUFFIX = "name"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Named).decode


class NameFiles:
    """The names in one directory. Methods raise `OSError`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def read(self, name: str) -> list[Named]:
        """Return the answers of the name whose logs are there, the newest last."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            return self._answers(descriptor)
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def creating(self, answer_id: str, names: Sequence[Naming]) -> AsyncIterator[None]:
        """Write the names. Create the log in the block: until its end, no other worker takes one of the names.

        If the block raises, the names are as before.

        Raises:
            NameTakenError: a name may stand for one answer only, and does.
            Unavailable: another worker holds a name for long.
        """
        with contextlib.ExitStack() as locks:
            held = []
            for naming in sorted(names, key=lambda naming: naming.name):
                descriptor = await self._lock(naming.name)
                locks.callback(os.close, descriptor)
                held.append((naming, descriptor))
                if naming.how == "only" and self._answers(descriptor):
                    raise NameTakenError
            with contextlib.ExitStack() as undo:
                for naming, descriptor in held:
                    undo.callback(self._forget, naming.name, descriptor, answer_id)
                    self._add(descriptor, Named(answer_id, naming.digest))
                yield
                undo.pop_all()

    def mark_delivered(self, name: str, answer_id: str) -> None:
        """Note that the answer was delivered."""
        for named in self.read(name):
            if named.answer == answer_id and not named.delivered:
                descriptor = os.open(self._path(name), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                try:
                    os.write(descriptor, _line(Named(answer_id, named.digest, delivered=True)))
                finally:
                    os.close(descriptor)

    def forget(self, name: str, answer_id: str) -> None:
        """Remove the answer from the name. Without effect while another worker holds the name: the log is gone."""
        try:
            descriptor = os.open(self._path(name), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if lock(descriptor, LEASE, fcntl.F_WRLCK) and os.fstat(descriptor).st_nlink:
                self._forget(name, descriptor, answer_id)
        finally:
            os.close(descriptor)

    def tidy(self, name: str) -> None:
        """Remove the name if none of its answers is there."""
        if not self.read(name):
            self.forget(name, "")

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}.{SUFFIX}"

    async def _lock(self, name: str) -> int:
        """Return the descriptor of the name's file, which is created if it is missing, and locked."""
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        while True:
            descriptor = os.open(self._path(name), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            kept = False
            try:
                if lock(descriptor, LEASE, fcntl.F_WRLCK) and os.fstat(descriptor).st_nlink:
                    kept = True
                    return descriptor
            finally:
                if not kept:
                    os.close(descriptor)
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable("log_unavailable")
            await asyncio.sleep(LOCK_POLL_SECONDS)

    def _answers(self, descriptor: int) -> list[Named]:
        answers: dict[str, Named] = {}
        for line in os.pread(descriptor, MOST_READ, 0).split(b"\n")[:-1]:
            with contextlib.suppress(ValueError):  # A line that a crash of the machine damaged stands for nothing.
                named = _decode(line)
                answers[named.answer] = named
        # A place in a dictionary is that of the first line: of the order in which the answers were begun.
        return [named for named in answers.values() if os.path.exists(f"{self._directory}/{named.answer}.jsonl")]  # noqa: PTH110 (see `FileEventLog.name`)

    def _add(self, descriptor: int, named: Named) -> None:
        size = os.fstat(descriptor).st_size
        if size > MOST_BYTES:
            self._rewrite(descriptor, [*self._answers(descriptor)[1 - MOST_ANSWERS :], named])
            return
        try:
            _write(descriptor, _line(named))
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def _forget(self, name: str, descriptor: int, answer_id: str) -> None:
        answers = [named for named in self._answers(descriptor) if named.answer != answer_id]
        if answers:
            self._rewrite(descriptor, answers)
        else:
            os.unlink(self._path(name))  # noqa: PTH108 (see `FileEventLog.name`)

    def _rewrite(self, descriptor: int, answers: Sequence[Named]) -> None:
        # A reader without a lock may find it empty. One that is about to create waits for the lock, and looks again.
        os.ftruncate(descriptor, 0)
        _write(descriptor, b"".join(map(_line, answers)))


def is_name(file_name: str) -> bool:
    """Return whether a file of this name is a name's."""
    return len(file_name) == NAME_LENGTH + 1 + len(SUFFIX) and file_name.endswith(f".{SUFFIX}")


def _line(named: Named) -> bytes:
    return _encode(named) + b"\n"


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, "")
