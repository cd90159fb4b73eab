"""`python -m tests.bench`: measure, print the tables, keep the figures."""

import argparse
import signal
import sys
from pathlib import Path

import msgspec

from tests.bench.peers import PEERS
from tests.bench.report import report, written_into
from tests.bench.run import FULL, QUICK, Results, run
from tests.bench.stacks import NAMES


def say(line: str) -> None:
    """Print progress, apart from the result."""
    sys.stderr.write(f"bench: {line}\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute instead of about eight")
    parser.add_argument("--stacks", default=",".join(NAMES), help="some of %(default)s")
    parser.add_argument("--peers", action="store_true", help=f"also measure {', '.join(PEERS)}, and install them first")
    parser.add_argument("--workers", type=int, default=1, help="workers of the service (%(default)s)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where the figures go (%(default)s)"
    )
    parser.add_argument("--saved", type=Path, help="measure nothing, and print the tables of figures kept earlier")
    parser.add_argument("--write", type=Path, help="a page whose tables are to be replaced by these")
    options = parser.parse_args()
    wanted = tuple(options.stacks.split(","))
    if options.peers:
        wanted += tuple(PEERS)
    if unknown := set(wanted) - set(NAMES) - set(PEERS):
        parser.error(f"no such stack: {', '.join(sorted(unknown))}")
    if options.saved:
        results = msgspec.json.decode(options.saved.read_bytes(), type=Results)
    else:
        # At SIGTERM, end the started processes too.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        results = run(QUICK if options.quick else FULL, wanted, options.workers, say)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    tables = report(results)
    sys.stdout.write(tables)
    if options.write:
        options.write.write_text(written_into(options.write.read_text(), tables))


main()
