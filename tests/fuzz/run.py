"""Run a target's cases, and print how to reproduce a failure."""

import asyncio
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from types import FrameType

from tests.fuzz.targets import TARGETS

CASE_SECONDS = 20.0
"""Timeout far above any case's duration. A longer case does not end."""
TIMER_CASES = 256
"""Number of cases between two resets of the timer."""


@dataclass(frozen=True)
class Finding:
    """A case that failed."""

    target: str
    seed: int
    number: int
    data: bytes
    error: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --target {self.target} --seed {self.seed} --only {self.number}"
        return f"{self.target}, case {self.number}: {self.error}\n  {self.data!r}\n  again: {again}"


class EndlessError(Exception):
    """A case exceeded the timeout."""


def _endless(_number: int, _frame: FrameType | None) -> None:
    raise EndlessError


def run(target: str, seed: int, numbers: Iterable[int]) -> tuple[int, float, Finding | None]:
    """Run the cases of these numbers; return how many, in how many seconds, and the first that failed."""
    return asyncio.run(_run(target, seed, numbers))  # A connection needs a running event loop.


async def _run(name: str, seed: int, numbers: Iterable[int]) -> tuple[int, float, Finding | None]:
    target = TARGETS[name]
    previous = signal.signal(signal.SIGALRM, _endless)
    begun_at = time.monotonic()
    done = 0
    data = b""
    number = -1
    try:
        for number in numbers:
            if done % TIMER_CASES == 0:
                signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
            rng = Random(f"{name} {seed} {number}")  # noqa: S311 (reproducible, not secret)
            data = target.case(rng)
            target.check(rng, data)
            done += 1
    except Exception as error:  # noqa: BLE001 (that it raises one is what is looked for)
        return done, time.monotonic() - begun_at, Finding(name, seed, number, data, f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return done, time.monotonic() - begun_at, None
