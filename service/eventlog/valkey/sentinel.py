"""Ask the sentinels for the address of the primary. https://valkey.io/topics/sentinel-clients/."""

import asyncio
import ssl
from typing import Any

from service.eventlog.valkey.address import Address, Host
from service.eventlog.valkey.handshake import UnreachableError, hello, open_pipeline


async def find_primary(address: Address, tls: ssl.SSLContext | None, name: str) -> Host:
    """Return the address of the primary, as the sentinel says that knows the latest fail-over.

    A sentinel that was cut off, or is wrong, may name an old primary for long. So all are asked at once, a majority is
    waited for, and the highest epoch of the configuration wins: each fail-over has a higher one.

    Raises:
        UnreachableError: no sentinel names one.
    """
    tasks = {asyncio.create_task(_ask(address, sentinel, tls, name)) for sentinel in address.hosts}
    found: list[tuple[int, Host]] = []
    failures: list[str] = []
    pending = tasks
    try:
        while pending and len(found) <= len(tasks) // 2:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    found.append(task.result())
                elif isinstance(error, UnreachableError):
                    failures.append(str(error))
                else:
                    raise error
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if not found:
        raise UnreachableError(f"sentinels: {', '.join(sorted(set(failures)))}")
    return max(found, key=lambda each: each[0])[1]


async def _ask(address: Address, sentinel: Host, tls: ssl.SSLContext | None, name: str) -> tuple[int, Host]:
    """Return the epoch of the configuration, and the primary in it."""
    commands = (hello(address.sentinel_credentials, name), ("SENTINEL", "MASTER", address.primary or ""))
    pipeline, replies = await open_pipeline(sentinel, tls, commands)
    pipeline.abort("done")
    return _primary_in(replies[1])


def _primary_in(reply: Any) -> tuple[int, Host]:  # noqa: ANN401 (from outside)
    try:
        fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return int(fields[b"config-epoch"]), Host(fields[b"ip"].decode(), int(fields[b"port"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnreachableError("SENTINEL reply") from None
