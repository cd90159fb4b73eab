"""How a worker keeps track of a directory's logs, and which worker erases."""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.eventlog import Retention
from service.eventlog.files import inventory
from service.eventlog.files.inventory import LEFT_OVER_SECONDS
from service.eventlog.files.log import FileEventLog
from service.eventlog.files.steps import STEP, STEP_OF_UNKNOWN
from service.events import Delta, Start, Stopped, new_answer_id
from service.names import Naming
from service.question import to_request
from tests.eventlog.another import AnotherWorker, tended
from tests.eventlog.test_files import age, begin, code_of, end, names, with_ended, without_inotify


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
async def log(directory: Path) -> AsyncIterator[FileEventLog]:
    log = FileEventLog(str(directory), Retention())
    yield log
    await log.aclose()


@pytest.fixture
def another(directory: Path) -> Iterator[AnotherWorker]:
    with AnotherWorker(f"file://{directory}") as another:
        yield another


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often files were opened and directories were listed."""
    calls = {"open": 0, "scandir": 0}

    def counted(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def count(*given: Any, **named: Any) -> Any:  # noqa: ANN401 (as it is called)
            calls[name] += 1
            return call(*given, **named)

        return count

    for name in calls:
        monkeypatch.setattr(os, name, counted(name))
    return calls


async def orphan(log: FileEventLog) -> str:
    answer, lease = await begin(log)
    lease.release()
    return answer


# Orphans


async def test_ended_logs_are_neither_opened_nor_listed_again(
    log: FileEventLog, directory: Path, calls: dict[str, int]
) -> None:
    await with_ended(log, directory, 300)
    await begin(log)
    await tended(log)
    assert calls["open"] > 300
    calls.update(open=0, scandir=0)
    for _ in range(5):
        assert await tended(log) == []
    assert calls == {"open": 5, "scandir": 0}, "the running one"


async def test_an_orphan_of_another_worker_is_found_without_listing(
    log: FileEventLog, another: AnotherWorker, calls: dict[str, int]
) -> None:
    await tended(log)
    calls.update(open=0, scandir=0)
    theirs = [new_answer_id() for _ in range(3)]
    for answer in theirs:
        await another.ask("create", answer=answer)
        assert await tended(log) == []
    another.kill()
    assert sorted(await tended(log)) == sorted(theirs)
    assert sorted(await tended(log)) == sorted(theirs), "until they are claimed"
    assert calls["scandir"] == 0


async def test_an_orphan_is_found_where_the_kernel_tells_of_no_logs(
    directory: Path, another: AnotherWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_inotify(monkeypatch)
    log = FileEventLog(str(directory), Retention())
    await tended(log)
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    another.kill()
    assert await tended(log) == [theirs]
    await log.aclose()


async def test_a_log_that_is_moved_in_is_found_at_once_and_one_that_is_copied_in_at_the_next_listing(
    log: FileEventLog, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tended(log)
    answer = await orphan(log)
    away = tmp_path / "away"
    shutil.move(log.path(answer), away)
    assert await tended(log) == []
    other = new_answer_id()
    shutil.copy(away, directory / f"{other}.jsonl")
    shutil.move(away, log.path(answer))
    assert await tended(log) == [answer]
    monkeypatch.setattr(log._sweep.inventory, "_list_at", 0.0)
    assert sorted(await tended(log)) == sorted([answer, other])


async def test_logs_that_the_kernel_did_not_tell_of_are_found_when_it_says_that_it_lost_count(
    log: FileEventLog, tmp_path: Path
) -> None:
    answer = await orphan(log)
    shutil.copy(log.path(answer), tmp_path / "copy")
    await log.erase(answer)
    await tended(log)
    shutil.copy(tmp_path / "copy", log.path(answer))
    assert await tended(log) == []
    log._wake_all()
    assert await tended(log) == [answer]


@pytest.mark.parametrize("how", ["lost count", "failed"])
async def test_after_a_listing_that_may_have_missed_a_log_the_next_look_lists_again(
    log: FileEventLog, directory: Path, calls: dict[str, int], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await with_ended(log, directory, STEP_OF_UNKNOWN + 1)
    sleep = asyncio.sleep

    def pausing(_: float) -> Coroutine[None, None, None]:
        if not log._sweep.inventory.ended:  # It is listing.
            if how == "failed":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            log._wake_all()
        return sleep(0)

    with monkeypatch.context() as listing:
        listing.setattr(asyncio, "sleep", pausing)
        if how == "failed":
            assert await code_of(tended(log)) == "log_unavailable"
        else:
            await tended(log)
    await tended(log)
    await tended(log)
    assert calls["scandir"] == 2


async def test_a_log_that_was_moved_to_the_place_of_an_ended_one_is_looked_at(
    log: FileEventLog, tmp_path: Path
) -> None:
    answer, lease = await begin(log)
    shutil.copy(log.path(answer), tmp_path / "before")
    lease.release()
    ended = await end(log)
    await log.erase(answer)
    await tended(log)
    shutil.move(tmp_path / "before", log.path(ended))
    assert await tended(log) == [ended]
    claimed = await log.claim(ended)
    assert claimed is not None
    assert await tended(log) == []
    claimed.release()


async def test_a_log_that_could_not_be_read_is_looked_at_again(log: FileEventLog, directory: Path) -> None:
    await tended(log)
    answer = await orphan(log)
    away = directory / "away"
    log.path(answer).rename(away)
    log.path(answer).mkdir()
    assert await code_of(tended(log)) == "log_unavailable"
    log.path(answer).rmdir()
    away.rename(log.path(answer))
    assert await tended(log) == [answer]


async def test_an_orphan_that_arises_in_a_first_sweep_does_not_wait_for_thousands_of_ended_logs(
    log: FileEventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_ended(log, directory, 5 * STEP)
    monkeypatch.setattr(inventory, "LOOK_SECONDS", 0.0)
    sleep = asyncio.sleep
    late: list[str] = []
    told: dict[str, int] = {}
    pauses = 0

    async def pausing(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if log._sweep.inventory._found and not late:
            late.append(await orphan(log))
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pausing)

    def tell(answer: str) -> None:
        told.setdefault(answer, pauses)

    await log.tend(tell)
    assert list(told) == late
    assert told[late[0]] <= pauses - 3


async def test_a_log_that_is_copied_in_while_the_directory_is_listed_is_found_once_it_is_whole(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await orphan(log)
    whole = log.path(answer).read_bytes()
    await log.erase(answer)
    log.path(answer).write_bytes(whole[:10])
    assert await tended(log) == []
    log.path(answer).write_bytes(whole)
    monkeypatch.setattr(log._sweep.inventory, "_list_at", 0.0)
    assert await tended(log) == [answer]


@pytest.mark.parametrize("elected", [True, False])
async def test_an_orphan_in_a_directory_that_was_away_for_a_while_is_found_when_it_is_back(
    log: FileEventLog, directory: Path, tmp_path: Path, *, elected: bool
) -> None:
    first = FileEventLog(str(directory), Retention())
    await tended(log if elected else first)
    answer = await orphan(log)
    assert await tended(log) == [answer]
    shutil.move(directory, tmp_path / "away")
    assert await code_of(tended(log)) == "log_unavailable"
    shutil.move(tmp_path / "away", directory)
    assert await tended(log) == [answer]
    await first.aclose()


# Erasing


@pytest.mark.parametrize("how", ["leaves", "dies"])
async def test_one_worker_erases_until_it_leaves_or_dies(directory: Path, another: AnotherWorker, how: str) -> None:
    first = FileEventLog(str(directory), Retention())
    log = FileEventLog(str(directory), Retention(seconds=10))
    expired = await end(log)
    age(log.path(expired), 11)
    if how == "leaves":
        await tended(first)
    else:
        await another.ask("tend")  # Both would keep the answer for an hour.
    for _ in range(3):
        assert await tended(log) == []
        assert log.path(expired).exists()
    await first.aclose()
    another.kill()
    assert await tended(log) == []
    assert not log.path(expired).exists()
    await log.aclose()


async def test_beyond_the_limit_a_twentieth_more_is_erased_so_that_sorting_is_rare(
    directory: Path, calls: dict[str, int]
) -> None:
    log = FileEventLog(str(directory), Retention(answers=40))
    answers = [await end(log) for _ in range(40)]
    for seconds, answer in enumerate(reversed(answers), 1):
        age(log.path(answer), 10 * seconds)
    await tended(log)
    assert len(names(directory)) == 40
    calls.update(scandir=0)
    answers += [await end(log)]
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl" for answer in answers[3:]}
    answers += [await end(log) for _ in range(2)]
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl" for answer in answers[3:]}
    assert calls["scandir"] == 1, "once, when there were too many"
    await log.aclose()


async def test_answers_that_another_worker_erased_take_nobody_elses_place(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(answers=10))
    other = FileEventLog(str(directory), Retention())
    answers = [await end(log) for _ in range(10)]
    await tended(log)
    for answer in answers[5:]:
        await other.erase(answer)
    answers[5:] = [await end(log) for _ in range(5)]
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl" for answer in answers}
    await other.aclose()
    await log.aclose()


async def test_the_bytes_of_running_answers_count_and_cost_the_oldest_ended_ones(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(bytes=20_000))
    ended = [await end(log, Delta(2, text="x" * 4000)) for _ in range(3)]
    for seconds, answer in enumerate(reversed(ended), 1):
        age(log.path(answer), seconds)
    _, lease = await begin(log)
    await tended(log)
    assert len(names(directory)) == 4
    await lease.append([Delta(2, text="x" * 9000)])
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl" for answer in (*ended[1:], lease.answer_id)}
    lease.release()
    await log.aclose()


async def test_erasing_thousands_of_logs_holds_up_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = os.unlink
    unlinked = 0
    most = 0
    sleep = asyncio.sleep

    def counted(path: str) -> None:
        nonlocal unlinked, most
        unlinked += 1
        most = max(most, unlinked)
        unlink(path)

    def pausing(_: float) -> Coroutine[None, None, None]:
        nonlocal unlinked
        unlinked = 0
        return sleep(0)

    for retention, seconds, kept in ((Retention(answers=20), 0, 19), (Retention(seconds=10), 11, 0)):
        log = FileEventLog(str(directory), retention)
        await with_ended(log, directory, 4 * STEP - len(names(directory)), seconds=seconds)
        for name in names(directory):
            age(directory / name, seconds)
        with monkeypatch.context() as counting:
            counting.setattr(os, "unlink", counted)
            counting.setattr(asyncio, "sleep", pausing)
            await tended(log)
        assert len(names(directory)) == kept
        assert STEP // 2 < most <= STEP
        await log.aclose()


async def test_a_left_over_that_was_written_to_again_stays(directory: Path) -> None:
    """As the count of take-overs of an answer that is taken over again."""
    first, log = (FileEventLog(str(directory), Retention()) for _ in range(2))
    await tended(first)
    claims = directory / f"{new_answer_id()}.claims"
    claims.touch()
    age(claims, LEFT_OVER_SECONDS + 1)
    await tended(log)  # It finds the file, and may not erase it.
    assert claims.exists()
    age(claims, 0)
    await first.aclose()
    await tended(log)
    assert claims.exists()
    await log.aclose()


async def test_a_worker_that_does_not_erase_tells_what_is_kept_too(directory: Path) -> None:
    """Its replica's metrics would otherwise say that the disk has no room."""
    first, log = (FileEventLog(str(directory), Retention()) for _ in range(2))
    await tended(first)
    await end(log)
    await tended(log)
    sample = REGISTRY.get_sample_value
    assert sample("folyam_log_answers") == 1
    assert sample("folyam_log_disk_free_bytes") == pytest.approx(shutil.disk_usage(directory).free, rel=0.5)
    await first.aclose()
    await log.aclose()


async def test_a_clock_that_is_set_back_erases_nothing_and_hides_no_orphan(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, lost = await end(log), await orphan(log)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 1e6)
    assert await tended(log) == [lost]
    later = await orphan(log)
    assert sorted(await tended(log)) == sorted([lost, later])
    assert log.path(ended).exists()


# What is beside the logs


async def begin_named(log: FileEventLog, *, characters: int = 1) -> str:
    """Begin and end an answer with a name and a question of so many characters."""
    asked, name = to_request("x" * characters, model="model"), "n" * 64
    start = Start.asking(new_answer_id(), asked, at=1.0, names=(name,))
    lease = await log.create(start, [Naming(name, "digest", "further")])
    await lease.append([Stopped(2, "user")])
    lease.release()
    return start.answer


@pytest.mark.parametrize("listed", [False, True])
async def test_the_bytes_of_a_large_request_are_counted(
    log: FileEventLog, directory: Path, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    await tended(log)
    before = log._sweep.inventory.bytes
    answer = await begin_named(log, characters=50_000)
    if listed:
        monkeypatch.setattr(inventory, "LIST_SECONDS", 0.0)
        log._sweep.inventory.list_soon()
    await tended(log)
    assert log._sweep.inventory.bytes - before > 50_000
    await log.erase(answer)
    log._sweep.inventory.list_soon()
    await tended(log)
    assert log._sweep.inventory.bytes < 1000
    assert f"{answer}.request" not in names(directory)


async def test_a_large_request_without_a_log_is_left_over(log: FileEventLog, directory: Path) -> None:
    answer = await begin_named(log, characters=50_000)
    alone = directory / f"{new_answer_id()}.request"
    alone.write_bytes(b"x")
    for path in (alone, directory / f"{answer}.request"):
        age(path, LEFT_OVER_SECONDS + 1)
    log._sweep.inventory.list_soon()
    await tended(log)
    assert f"{answer}.request" in names(directory)
    assert alone.name not in names(directory)


async def test_a_name_is_removed_when_none_of_its_answers_is_there(log: FileEventLog, directory: Path) -> None:
    answers = [await begin_named(log) for _ in range(2)]
    path = directory / f"{'n' * 64}.name"
    for answer in answers:
        age(path, LEFT_OVER_SECONDS + 1)
        log._sweep.inventory.list_soon()
        await tended(log)
        assert path.name in names(directory)
        (directory / f"{answer}.jsonl").unlink()
    age(path, LEFT_OVER_SECONDS + 1)
    log._sweep.inventory.list_soon()
    await tended(log)
    assert path.name not in names(directory)
