"""Record which test walks which transition of `service.lifecycle`, and check that it does."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import pytest

from service import lifecycle, producer, watch
from service.lifecycle import Cause, State

STEP_SECONDS = 1.0
"""Time for a step that a test has caused."""

Step = tuple[State, Cause]
Test = Callable[..., Awaitable[None]]

WALKERS: dict[Step, list[str]] = {}
"""Each step, with the node ids of the tests that walk it. Filled by the import of their modules."""

_seen: set[Step] = set()
"""The steps of the running test."""


def walks(*steps: Step) -> Callable[[Test], Test]:
    """Declare that a test walks these steps. The test fails if it does not."""

    def declare(test: Test) -> Test:
        @functools.wraps(test)
        async def walking(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (whatever the test takes)
            with _observed():
                await test(*args, **kwargs)
                await _seen_soon(set(steps))
            missing = set(steps) - _seen
            assert not missing, f"not walked: {missing}"

        _note(steps, test)
        return walking

    return declare


def walks_from(states: Sequence[State], cause: Cause) -> Callable[[Test], Test]:
    """Declare that a test, given each `state` in turn, walks from there by the cause."""

    def declare(test: Test) -> Test:
        @functools.wraps(test)
        async def walking(*args: Any, state: State, **kwargs: Any) -> None:  # noqa: ANN401 (whatever the test takes)
            with _observed():
                await test(*args, state=state, **kwargs)
                await _seen_soon({(state, cause)})
                assert (state, cause) in _seen, f"not walked; seen: {_seen}"

        _note([(state, cause) for state in states], test)
        parametrized: Test = pytest.mark.parametrize("state", states)(walking)
        return parametrized

    return declare


async def _seen_soon(steps: set[Step]) -> None:
    """Let producers walk on. Over a network, a follower has an answer's end before its producer's task goes on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STEP_SECONDS):
            while not steps <= _seen:  # noqa: ASYNC110 (a set, which has no event)
                await asyncio.sleep(0.001)


def walked(state: State, cause: Cause) -> None:
    """Record a step without a producer: a death or an erasure. The caller has checked the log before and after."""
    _seen.add((state, cause))


@contextlib.contextmanager
def _observed() -> Iterator[None]:
    def observe(state: State, cause: Cause) -> State:
        target = lifecycle.move(state, cause)
        _seen.add((state, cause))
        return target

    _seen.clear()
    with patch.object(producer, "move", observe), patch.object(watch, "move", observe):
        yield


def _note(steps: Sequence[Step], test: Test) -> None:
    for step in steps:
        WALKERS.setdefault(step, []).append(f"{test.__module__.replace('.', '/')}.py::{test.__qualname__}")
