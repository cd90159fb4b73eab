"""`python -m tests.fuzz --cases 1000000`: so many cases for each target; exit status 1 if one of them fails."""

import argparse
import sys
from random import SystemRandom

from tests.fuzz.run import run
from tests.fuzz.targets import TARGETS


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="for each target (100,000)")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32), help="to see a run again")
    parser.add_argument("--target", choices=TARGETS, action="append", help="which; all, if none is named")
    parser.add_argument("--only", type=int, help="the number of the only case")
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    numbers = range(chosen.cases) if chosen.only is None else [chosen.only]
    failed = False
    for target in chosen.target or TARGETS:
        done, seconds, finding = run(target, chosen.seed, numbers)
        say(f"{target}: {done:,} cases in {seconds:.0f} s{'' if finding else ', nothing found'}")
        if finding:
            failed = True
            say(str(finding))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
