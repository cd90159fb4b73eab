"""What stays in the directory and for how long."""

import fcntl
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from service.eventlog.lines import last_line
from service.eventlog.locks import LEASE, is_locked_by_another
from service.events import Terminal, decode, is_answer_id

LEFT_OVER_SECONDS = 60.0
"""After this long, a file that is no log (a log whose worker died before it began, a stop that nobody read) goes."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds on ended answers: the oldest go first. Running answers are never erased."""

    seconds: float = 3600.0
    answers: int = 10_000
    bytes: int = 1 << 30


@dataclass(slots=True)
class Sweep:
    """Sweeps over one directory, remembering which logs were seen to have ended so as not to open them again."""

    directory: Path
    retention: Retention
    _ended: set[str] = field(default_factory=set)

    def run(self) -> list[str]:
        """Erase what has expired; return the ids of orphans. Does nothing while another worker sweeps."""
        descriptor = os.open(self.directory / ".sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        else:
            return self._run()
        finally:
            os.close(descriptor)

    def _run(self) -> list[str]:
        now = time.time()
        orphans = []
        ended = []
        answers, size = 0, 0
        seen = set()
        with os.scandir(self.directory) as entries:
            for entry in entries:
                name, _, kind = entry.name.partition(".")
                if not is_answer_id(name):
                    continue
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if kind != "jsonl":
                    if now - stat.st_mtime > LEFT_OVER_SECONDS:
                        Path(entry.path).unlink(missing_ok=True)
                    continue
                answers += 1
                size += stat.st_size
                match self._state(name, entry.path):
                    case "ended":
                        seen.add(name)
                        ended.append((stat.st_mtime, stat.st_size, name, entry.path))
                    case "orphan":
                        orphans.append(name)
        self._ended = seen
        for modified, length, name, path in sorted(ended):
            expired = now - modified > self.retention.seconds
            if not expired and answers <= self.retention.answers and size <= self.retention.bytes:
                break
            Path(path).unlink(missing_ok=True)
            self._ended.discard(name)
            answers -= 1
            size -= length
        return orphans

    def _state(self, name: str, path: str) -> str:
        if name in self._ended:
            return "ended"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "gone"
        try:
            if is_locked_by_another(descriptor, LEASE):
                return "running"
            line, _ = last_line(descriptor)
            try:
                event = decode(line)
            except ValueError:
                return "ended"  # Unreadable: nobody can take it over, and nobody be sent it.
            return "ended" if isinstance(event, Terminal) else "orphan"
        finally:
            os.close(descriptor)
