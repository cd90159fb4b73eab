"""`python -m tests.upstream --port 8200`: serve until a signal comes."""

import argparse
import asyncio
import signal
import sys

import uvloop

from tests.upstream.server import Upstream


async def serve(host: str, port: int, *, until_eof: bool) -> None:
    """Print the address when ready, and serve."""
    loop = asyncio.get_running_loop()
    server = await Upstream(loop).listen(host, port)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if until_eof:
        # The parent holds the other end. When it dies, for any reason, this process ends.
        loop.add_reader(sys.stdin.fileno(), ended.set)
    chosen = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://{host}:{chosen}\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free one")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.host, options.port, until_eof=options.until_eof))


main()
