"""A time limit on a block."""

import asyncio

import pytest

from service.deadline import Deadline


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("seconds", [-1.0, 0.01])
async def test_a_block_that_takes_too_long_is_cancelled(seconds: float) -> None:
    with pytest.raises(TimeoutError) as raised, Deadline(now() + seconds):
        await forever()
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_block_that_ends_in_time_or_by_its_own_error_is_left_alone() -> None:
    with Deadline(now() + 0.01):
        pass
    with pytest.raises(KeyError), Deadline(now() + 0.01):
        raise KeyError
    await asyncio.sleep(0.02)


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def limited() -> None:
        with Deadline(now() + 60):
            await forever()

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_counts_if_both_come_at_once() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def limited() -> None:
        with Deadline(now() - 1):
            asyncio.get_running_loop().call_soon(tasks[0].cancel)
            await forever()

    tasks.append(asyncio.create_task(limited()))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_of_two_the_one_that_is_over_tells() -> None:
    told: list[str] = []

    async def limited() -> None:
        try:
            with Deadline(now() + 60):
                await forever()
        except TimeoutError:
            told.append("inner")

    with pytest.raises(TimeoutError), Deadline(now() + 0.01):
        await limited()
    assert told == []
