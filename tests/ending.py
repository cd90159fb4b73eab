"""Kill what the tests started when they are killed themselves: SIGKILL runs no `finally`."""

import atexit
import functools
import subprocess

_WATCH = """
while read -r pid start; do pids="$pids $pid:$start"; done
for each in $pids; do
  pid=${each%%:*}
  read -r line < "/proc/$pid/stat" || continue
  set -- ${line##*) }
  [ "${20}" = "${each##*:}" ] && kill -KILL "$pid"
done
"""
"""Reads until the tests have ended, however they end. A number that is another process by now has another start."""


@functools.cache
def _watcher() -> subprocess.Popen[str]:
    watcher = subprocess.Popen(
        ["sh", "-c", _WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    atexit.register(watcher.communicate)
    return watcher


def end_with_us(pid: int) -> None:
    """Have the process killed when this one has ended."""
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 (read once)
        start = stat.read().rpartition(") ")[2].split()[19]
    watcher = _watcher()
    assert watcher.stdin is not None
    watcher.stdin.write(f"{pid} {start}\n")
    watcher.stdin.flush()
