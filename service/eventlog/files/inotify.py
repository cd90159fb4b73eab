"""Wake a worker when another one writes to a log, by inotify. Without inotify, readers poll."""

import asyncio
import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import structlog
from inotify_simple import INotify, flags

_OVERFLOW = int(flags.Q_OVERFLOW)
_LOG_CHANGED = flags.MODIFY | flags.CLOSE_WRITE
"""CLOSE_WRITE, because a producer's death closes its file: this tells its followers at once."""
_MOVED_IN = flags.MOVED_TO | flags.ONLYDIR
"""New logs and stop requests are renamed when they are written."""

_logger = structlog.get_logger()


def load_libc() -> None:
    """Load the C library through which inotify is called. Must run before the process is confined.

    inotify_simple would load it with its first descriptor. `ctypes` finds the library by running ldconfig and a
    compiler, if there is one. These write to /dev/null and to a temporary file, which a confined process may not.
    """
    with contextlib.suppress(OSError):  # Not found, or no descriptor is left: `Wakeups` logs which.
        INotify().close()


class Wakeups:
    """A worker's inotify descriptor. It watches the logs that readers follow, and the directory.

    Callbacks: `on_log` with the id of an answer whose log changed; `on_stop` with the id of an answer to stop;
    `on_file` with the name of any other file that was moved into the directory; `on_overflow` when the kernel dropped
    events, so that anything may have changed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        on_log: Callable[[str], None],
        on_stop: Callable[[str], None],
        on_file: Callable[[str], None],
        on_overflow: Callable[[], None],
    ) -> None:
        self._on_log = on_log
        self._on_stop = on_stop
        self._on_file = on_file
        self._on_overflow = on_overflow
        self._answers: dict[int, str] = {}
        self._watches: dict[str, tuple[int, int]] = {}  # by answer: the watch, and its number of readers
        self._loop = asyncio.get_running_loop()
        self._inotify: INotify | None = None
        self._polls = False
        try:
            inotify = INotify(nonblocking=True)
            self._directory_watch = inotify.add_watch(directory, _MOVED_IN)
        except OSError as error:
            # fs.inotify.max_user_instances or max_user_watches is reached, or the platform has no inotify.
            self._followers_poll(error)
            return
        self._inotify = inotify
        self._loop.add_reader(inotify.fileno(), self._read)

    @property
    def working(self) -> bool:
        """Whether the kernel wakes this worker, so that it need not poll."""
        return self._inotify is not None

    def catch_up(self) -> bool:
        """Handle the notifications so far, also those that the event loop has not come to. Return `working`."""
        self._read()
        return self.working

    def watch(self, answer_id: str, path: str) -> bool:
        """Call `on_log` when the answer's file changes. Return False if the kernel cannot watch it."""
        if self._inotify is None:
            return False
        watch, readers = self._watches.get(answer_id, (0, 0))
        if not readers:
            try:
                watch = self._inotify.add_watch(path, _LOG_CHANGED)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # fs.inotify.max_user_watches is reached
                    self._followers_poll(error)
                return False
            self._answers[watch] = answer_id
        self._watches[answer_id] = (watch, readers + 1)
        return True

    def unwatch(self, answer_id: str) -> None:
        """Drop one reference to the watch."""
        if self._inotify is None or answer_id not in self._watches:
            return
        watch, readers = self._watches[answer_id]
        if readers > 1:
            self._watches[answer_id] = (watch, readers - 1)
            return
        del self._watches[answer_id]
        self._answers.pop(watch, None)
        with contextlib.suppress(OSError):  # The file was erased, and with it the kernel's watch.
            self._inotify.rm_watch(watch)

    def close(self) -> None:
        """Remove the inotify descriptor."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _followers_poll(self, error: OSError) -> None:
        # Logged once: each new follower would hit the same limit.
        if not self._polls:
            self._polls = True
            _logger.warning("followers_poll", reason=error.strerror)

    def _read(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read(timeout=0):
            if event.mask & _OVERFLOW:
                self._on_overflow()
            elif event.wd == self._directory_watch:
                if event.name.endswith(".stop"):
                    self._on_stop(event.name.removesuffix(".stop"))
                else:
                    self._on_file(event.name)
            elif answer_id := self._answers.get(event.wd):
                self._on_log(answer_id)
