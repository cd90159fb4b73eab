"""`python -m tests.upstream --port 8200`: serve until a signal comes."""

import argparse
import asyncio
import os
import select
import signal
import socket
import sys

import uvloop

from tests.upstream.server import Upstream

LOOK_SECONDS = 0.02
"""Interval at which dead children are replaced."""


async def serve(host: str, port: int, *, until_eof: bool, listening: socket.socket | None = None) -> None:
    """Print the address when ready, and serve. With the socket of `replace_the_dead`, print nothing."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(loop)
    server = await (upstream.listen(host, port) if listening is None else upstream.listen_at(listening))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if until_eof:
        # The parent holds the other end. When it dies, for any reason, this process ends.
        loop.add_reader(sys.stdin.fileno(), ended.set)
    if listening is None:
        announce(host, server.sockets[0].getsockname()[1])
    await ended.wait()
    server.close()


def announce(host: str, port: int) -> None:
    """Print the address."""
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()


def replace_the_dead(host: str, port: int, children: int) -> None:
    """Serve in so many children, and fork another one for each that dies, until standard input ends.

    The socket outlives them, so that a connection waits for the next child, as behind a load balancer.
    """
    with socket.create_server((host, port), backlog=1024) as listening:
        listening.setblocking(False)  # noqa: FBT003 (the standard library's own)
        announce(host, listening.getsockname()[1])
        living: set[int] = set()
        while True:
            while len(living) < children:
                if not (child := os.fork()):
                    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                        runner.run(serve(host, port, until_eof=True, listening=listening))
                    os._exit(0)
                living.add(child)
            if select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
                break
            living -= {pid for pid in living if os.waitpid(pid, os.WNOHANG)[0]}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free one")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    parser.add_argument("--children", type=int, default=0, help="serve in so many processes that may die")
    options = parser.parse_args()
    if options.children:
        replace_the_dead(options.host, options.port, options.children)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.host, options.port, until_eof=options.until_eof))


main()
