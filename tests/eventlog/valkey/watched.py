"""A primary, a replica, and three sentinels that watch them."""

import contextlib
from pathlib import Path

from tests.valkey import Sentinel, ValkeyServer
from tests.waiting import until

DOWN_AFTER_SECONDS = 1.0
PASSWORD = "secret"  # noqa: S105 (of the servers, not of the sentinels)


class Watched:
    """They run until the stack is closed."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.primary = stack.enter_context(ValkeyServer(directory / "one", password=PASSWORD))
        self.replica = stack.enter_context(ValkeyServer(directory / "two", password=PASSWORD, replica_of=self.primary))
        self.sentinels = [
            stack.enter_context(
                Sentinel(directory / f"sentinel{number}", self.primary, down_after_seconds=DOWN_AFTER_SECONDS)
            )
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        """The value for `FOLYAM_LOG_URL`."""
        return f"valkey+sentinel://:{PASSWORD}@{','.join(str(each.address) for each in self.sentinels)}/folyam"

    async def ready(self) -> None:
        """Wait until each sentinel knows the replica and the other two."""
        for sentinel in self.sentinels:
            await until(lambda: len(sentinel.command("SENTINEL", "REPLICAS", "folyam")) == 1)  # noqa: B023
            await until(lambda: len(sentinel.command("SENTINEL", "SENTINELS", "folyam")) == 2)  # noqa: B023
        await until(lambda: self.replica.command("INFO", "replication")["master_link_status"] == "up")
