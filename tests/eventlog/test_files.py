"""Properties of the log as files."""

import asyncio
import errno
import fcntl
import json
import math
import os
import re
import resource
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from inotify_simple import INotify, flags
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.errors import FolyamError, Unavailable, UnknownAnswer
from service.eventlog import Claims, DamagedLogError, Retention, UnusableLog, open_event_log, prepare_event_log
from service.eventlog.files import inventory, steps, stops
from service.eventlog.files.inventory import LEFT_OVER_SECONDS
from service.eventlog.files.lease import FileLease
from service.eventlog.files.log import FileEventLog
from service.eventlog.files.steps import STEP, STEP_OF_KNOWN, STEP_OF_UNKNOWN
from service.eventlog.files.sweep import Sweep
from service.events import Delta, Done, Event, Failed, Start, Stopped, StoppedBy, Timing, decode, encode, new_answer_id
from service.names import Naming
from service.question import to_request
from tests.eventlog.another import ROOT, AnotherWorker, tended
from tests.test_producer import closed, one_end, orphan_of, unwatched_orphan
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import Worker, seqs_without_gaps, worker

LONG_SECONDS = 60.0


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


async def begin(log: FileEventLog, *events: Event) -> tuple[str, FileLease]:
    answer = new_answer_id()
    lease = await log.create(Start(1, answer, "model"))
    if events:
        await lease.append(events)
    return answer, lease


async def end(log: FileEventLog, *events: Event) -> str:
    answer, lease = await begin(log, *events)
    await lease.append([Stopped(lease.last_seq + 1, "user")])
    lease.release()
    return answer


async def read_all(log: FileEventLog, answer: str) -> list[Event]:
    reader = await log.open(answer, watch=False)
    read: list[Event] = []
    while events := await reader.read():
        read += events
    reader.close()
    return read


def say(seq: int) -> Delta:
    return Delta(seq, text=f"w{seq} ")


async def code_of(failing: Any) -> str:  # noqa: ANN401 (any awaitable of the log's)
    with pytest.raises(FolyamError) as caught:
        await failing
    assert isinstance(caught.value, Unavailable)
    return caught.value.code


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {".sweep"}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_text().splitlines()]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Addresses and files


def test_the_url_is_a_path_and_may_be_percent_encoded(tmp_path: Path) -> None:
    async def path_of(url: str) -> Path:
        log = open_event_log(url, Retention())
        assert isinstance(log, FileEventLog)
        await log.aclose()
        return log.path("0").parent

    assert asyncio.run(path_of(f"file://{tmp_path}/with%20space%C3%A9")) == tmp_path / "with spaceé"
    assert (tmp_path / "with spaceé").is_dir()


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        FileEventLog(str(tmp_path / "file" / "answers"), Retention())


def test_what_is_written_to_is_the_directory_which_is_made(directory: Path) -> None:
    assert prepare_event_log(directory.as_uri()) == [directory]
    assert mode(directory) == 0o700


def test_a_directory_that_cannot_be_made_is_told_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableLog, match=r"^Should be a directory that can be written: .*/file"):
        prepare_event_log((tmp_path / "file" / "answers").as_uri())


async def test_a_log_is_one_event_a_line_and_private_to_its_user(log: FileEventLog, directory: Path) -> None:
    answer, lease = await begin(log, say(2), say(3))
    path = log.path(answer)
    assert names(directory) == {path.name} == {f"{answer}.jsonl"}
    assert seqs(path) == [1, 2, 3]
    assert (mode(path), mode(directory)) == (0o600, 0o700)
    assert lease.size == path.stat().st_size


async def test_a_directory_that_is_gone_fails_the_check(log: FileEventLog, directory: Path) -> None:
    await log.check()
    shutil.rmtree(directory)
    assert await code_of(log.check()) == "log_unavailable"
    assert await code_of(log.create(Start(1, new_answer_id(), "model"))) == "log_unavailable"
    assert await code_of(tended(log)) == "log_unavailable"
    assert await code_of(log.request_stop(new_answer_id(), "user")) == "log_unavailable"


async def test_a_directory_that_was_replaced_fails_the_check_though_it_can_be_written_to(
    log: FileEventLog, directory: Path
) -> None:
    assert not log.lost()
    shutil.rmtree(directory)
    assert log.lost()
    directory.mkdir()  # noqa: ASYNC240 (nothing else runs here)
    assert log.lost()
    assert await code_of(log.check()) == "log_unavailable"


async def test_a_directory_that_no_new_process_could_use_is_not_left(log: FileEventLog, directory: Path) -> None:
    shutil.rmtree(directory)
    directory.touch()  # noqa: ASYNC240 (nothing else runs here)
    assert not log.lost()
    assert await code_of(log.check()) == "log_unavailable"
    directory.unlink()  # noqa: ASYNC240
    assert log.lost()


async def test_an_id_is_never_used_twice(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    (log.path(answer).with_suffix(".new")).touch()
    assert await code_of(log.create(Start(1, answer, "model"))) == "log_unavailable"
    assert lease.last_seq == 1


# Torn lines


async def test_a_torn_last_line_is_never_delivered_and_cut_when_claimed(log: FileEventLog) -> None:
    line = encode(Delta(4, text="é😀 torn")) + b"\n"
    for cut in range(1, len(line)):
        answer, lease = await begin(log, say(2), say(3))
        lease.release()
        path = log.path(answer)
        whole = path.read_bytes()
        path.write_bytes(whole + line[:cut])

        reader = await log.open(answer, 2)
        assert list(await reader.read()) == [say(3)]
        assert not await reader.read()
        assert await log.last(answer) == say(3)
        with pytest.raises(UnknownAnswer):
            await log.open(answer, 4)

        claimed = await log.claim(answer)
        assert claimed is not None
        assert path.read_bytes() == whole
        assert (claimed.last_seq, claimed.size) == (3, len(whole))
        await claimed.append([say(4)])
        assert list(await reader.read()) == [say(4)]
        reader.close()


async def test_a_torn_terminal_event_is_no_end(log: FileEventLog) -> None:
    answer, lease = await begin(log, say(2))
    lease.release()
    with log.path(answer).open("ab") as file:
        file.write(encode(Done(3, "stop", None, Timing(None, 1.0))))
    assert await tended(log) == [answer]
    claimed = await log.claim(answer)
    assert claimed is not None
    assert claimed.last_seq == 2


@pytest.mark.parametrize("rest", [b"", b"\0" * 4096, b'{"type":"sta'])
async def test_a_log_without_a_start_is_no_answer_and_expires(directory: Path, rest: bytes) -> None:
    log = FileEventLog(str(directory), Retention(seconds=100))
    answer = new_answer_id()
    path = directory / f"{answer}.jsonl"
    path.write_bytes(rest)
    with pytest.raises(UnknownAnswer):
        await log.last(answer)
    assert await log.claim(answer) is None
    assert await tended(log) == []
    assert path.exists()
    os.utime(path, (0, time.time() - 101))
    await log.aclose()
    later = FileEventLog(str(directory), Retention(seconds=100))  # This one has not seen when it was written.
    assert await tended(later) == []
    assert not path.exists()
    await later.aclose()


async def test_an_unreadable_last_line_makes_no_orphan_that_cannot_be_adopted(log: FileEventLog) -> None:
    answer, lease = await begin(log, say(2))
    lease.release()
    with log.path(answer).open("ab") as file:
        file.write(b'{"type":"delta","seq":"three"}\n')
    assert await log.claim(answer) is None
    assert await tended(log) == []


# Full disks


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow longer: the kernel then writes as much as fits, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_does_not_fit_is_cut_to_whole_lines_and_last_seq_says_so(log: FileEventLog) -> None:
    lines = [encode(say(seq)) + b"\n" for seq in (2, 3, 4)]
    ends = [sum(map(len, lines[:count])) for count in range(4)]
    for room in range(ends[3]):
        answer, lease = await begin(log)
        path = log.path(answer)
        reader = await log.open(answer, 1)
        fits = max(count for count in range(4) if ends[count] <= room)
        with files_of_at_most(lease.size + room):
            await code_of(lease.append([say(2), say(3), say(4)]))
        assert lease.last_seq == 1 + fits
        assert lease.size == path.stat().st_size
        assert list(await reader.read()) == [say(2), say(3), say(4)][:fits]

        await lease.append([say(lease.last_seq + 1)])  # There is room again.
        assert await read_all(log, answer) == [Start(1, answer, "model"), *(say(seq) for seq in range(2, 3 + fits))]
        assert lease.size == path.stat().st_size
        reader.close()
        lease.release()


async def test_whole_lines_that_fitted_wake_their_followers(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    reader = await log.open(answer, 1)
    waiting = asyncio.ensure_future(reader.wait(LONG_SECONDS))
    await asyncio.sleep(0)
    with files_of_at_most(lease.size + len(encode(say(2))) + 5):
        await code_of(lease.append([say(2), say(3)]))
    await asyncio.wait_for(waiting, DEADLINE_SECONDS)
    assert list(await reader.read()) == [say(2)]
    reader.close()


async def test_a_full_disk_is_told_as_such(log: FileEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lease = await begin(log)

    def full(_descriptor: int, _data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    assert await code_of(lease.append([say(2)])) == "log_full"
    assert await code_of(log.create(Start(1, new_answer_id(), "model"))) == "log_full"
    monkeypatch.undo()
    assert lease.last_seq == 1
    await lease.append([say(2)])


async def test_an_answer_that_cannot_begin_leaves_nothing_behind(log: FileEventLog, directory: Path) -> None:
    descriptors = open_descriptors()
    with files_of_at_most(20):
        assert await code_of(log.create(Start(1, new_answer_id(), "model"))) == "log_full"
    assert names(directory) == set()
    assert open_descriptors() == descriptors


async def test_a_claim_that_fails_holds_no_lease(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    lease.release()
    in_the_way = log.path(answer).with_suffix(".claims")
    in_the_way.mkdir()
    assert await code_of(log.claim(answer)) == "log_unavailable"
    reader = await log.open(answer)
    assert reader.orphaned()
    reader.close()
    in_the_way.rmdir()
    assert await log.claim(answer) is not None


# Failing disks


SYSTEM_CALLS = ("open", "read", "pread", "write", "fstat", "ftruncate", "rename", "unlink", "scandir", "statvfs")


async def everything(log: FileEventLog) -> list[str]:
    """Call each method of a log, step by step; return each step's outcome."""
    outcomes: list[str] = []

    async def step(work: Callable[[], Any]) -> Any:  # noqa: ANN401 (whatever the step gives)
        try:
            done = work()
            done = await done if isawaitable(done) else done
        except (FolyamError, OSError) as error:
            outcomes.append(type(error).__name__)
            return None
        outcomes.append("done")
        return done

    async def produce(lease: FileLease) -> None:
        await step(lambda: lease.append([say(lease.last_seq + 1)]))
        await step(lease.grew)
        await step(lease.watched)
        await step(lambda: lease.mark_unwatched(1))
        await step(lease.clear_unwatched)
        await step(lambda: log.request_stop(lease.answer_id, "user"))
        lease.stop_written()
        await step(lease.stop_requested)
        await step(lease.hand_over)

    begun = await step(lambda: log.create(Start(1, new_answer_id(), "model")))
    claimed = await step(lambda: log.claim(ORPHAN))
    reader = await step(lambda: log.open(ORPHAN, 1))
    for lease in (begun, claimed):
        if lease is not None:
            await produce(lease)
    if reader is not None:
        await step(reader.read)
        await step(reader.orphaned)
        await step(lambda: reader.wait(0.001))
        await step(reader.close)
    await step(lambda: log.last(ORPHAN))
    await step(lambda: log.tend(lambda _: None))
    await step(log.check)
    await step(lambda: log.erase(ORPHAN))
    return outcomes


ORPHAN = "0" * 32


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("call", SYSTEM_CALLS)
async def test_each_failure_of_the_disk_is_an_error_of_the_log(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    (await log.create(Start(1, ORPHAN, "model"))).release()
    age(log.path(await end(log)), 1e6)

    def refuse(*_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 (as any of them is called)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as failing:
        failing.setattr(os, call, refuse)
        outcomes = await everything(log)
    assert set(outcomes) <= {"done", "Unavailable"}, outcomes
    assert "Unavailable" in outcomes
    (await log.create(Start(1, ORPHAN, "model"))).release()
    assert set(await everything(log)) == {"done"}, "it works again"


async def test_a_torn_line_that_could_not_be_cut_off_is_before_the_next_one(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, lease = await begin(log)

    def broken(*_: int) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing, files_of_at_most(lease.size + 5):
        failing.setattr(os, "ftruncate", broken)
        assert await code_of(lease.append([say(2)])) == "log_unavailable"
    await lease.append([say(2)])
    assert await read_all(log, answer) == [Start(1, answer, "model"), say(2)]


async def test_a_stop_is_heard_where_its_file_cannot_be_removed(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, lease = await begin(log)
    await log.request_stop(answer, "user")

    def read_only(*_: str) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "unlink", read_only)
    await until(lambda: lease.stop_requested() == "user")


async def test_a_stop_of_a_new_answer_is_looked_for_once_the_kernel_tells_of_it(
    log: FileEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    take = stops.take

    def seen(path: str) -> StoppedBy | None:
        looked.append(path)
        return take(path)

    monkeypatch.setattr(stops, "take", seen)
    answer, lease = await begin(log)
    assert lease.stop_requested() is None
    assert looked == []
    await log.request_stop(answer, "user")
    await until(lambda: lease.stop_requested() == "user")


async def test_without_the_kernels_word_a_stop_of_a_new_answer_is_looked_for_each_time(log: FileEventLog) -> None:
    log.wakeups.close()
    answer, lease = await begin(log)
    assert lease.stop_requested() is None
    await log.request_stop(answer, "user")
    assert lease.stop_requested() == "user"


async def test_a_log_that_cannot_be_read_or_erased_keeps_no_sweep_from_the_others(directory: Path) -> None:
    for _ in range(2):  # One of each comes before the other in any order.
        log = FileEventLog(str(directory), Retention(seconds=10))
        expired, orphan = await expired_and_orphan(log)
        in_the_way = directory / f"{new_answer_id()}.jsonl"
        in_the_way.mkdir()
        told: list[str] = []
        assert await code_of(log.tend(told.append)) == "log_unavailable"
        assert orphan in told
        assert not log.path(expired).exists()
        await log.aclose()


# Take-overs


async def test_take_overs_are_one_byte_each_which_says_whether_the_answer_then_grew(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    for grows in (False, True, False):
        lease.release()
        claimed = await log.claim(answer)
        assert claimed is not None
        lease = claimed
        if grows:
            lease.grew()
    path = log.path(answer).with_suffix(".claims")
    assert path.read_text() == ".+."
    assert mode(path) == 0o600


async def test_the_claims_of_a_worker_of_the_version_before_are_counted(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    lease.release()
    log.path(answer).with_suffix(".claims").write_bytes(b"..")
    claimed = await log.claim(answer)
    assert claimed is not None
    assert claimed.claims == Claims(3, 3)


async def test_claims_that_were_forgotten_meanwhile_stay_forgotten(log: FileEventLog, directory: Path) -> None:
    answer, lease = await begin(log)
    lease.release()
    claimed = await log.claim(answer)
    assert claimed is not None
    log.path(answer).with_suffix(".claims").unlink()
    claimed.grew()
    assert names(directory) == {f"{answer}.jsonl"}


async def test_only_time_with_a_producer_counts_as_time_without_a_follower(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    lease.mark_unwatched(30)
    path = log.path(answer)
    mark = path.with_suffix(".unwatched")
    for produced, down, left in ((0, 0, 30), (20, 0, 10), (20, 1000, 10), (40, 0, 0), (0, 1000, 30)):
        lease.release()
        marked_at = time.time() - down - produced
        os.utime(mark, (0, marked_at + 30))
        os.utime(path, (0, marked_at + produced))
        claimed = await log.claim(answer)
        assert claimed is not None
        assert claimed.unwatched_seconds_left == pytest.approx(left)
        lease = claimed


async def test_the_time_without_a_follower_is_kept_while_it_lasts_and_then_swept(
    log: FileEventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "LIST_SECONDS", 0)
    answer, lease = await begin(log)
    lease.mark_unwatched(300)
    mark = log.path(answer).with_suffix(".unwatched")
    assert mark.stat().st_mtime - time.time() > 300 - DEADLINE_SECONDS
    await tended(log)
    assert mark.exists()
    age(mark, LEFT_OVER_SECONDS + 1)
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl"}


# Waking


def longest_queue() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def without_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    def used_up(**_: bool) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("service.eventlog.files.inotify.INotify", used_up)


async def test_a_torn_line_keeps_no_poller_from_waiting(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_inotify(monkeypatch)
    log = FileEventLog(str(directory), Retention())
    answer, lease = await begin(log)
    lease.release()
    with log.path(answer).open("ab") as file:
        file.write(b'{"type":"delta","se')
    reader = await log.open(answer, 1)
    waiting = asyncio.ensure_future(reader.wait(60))
    for _ in range(5):
        await asyncio.sleep(0)
        assert not waiting.done()
    waiting.cancel()
    reader.close()
    await log.aclose()


@pytest.mark.parametrize("content", [b"", bytes(5000), b'{"type":"start","seq":1'])
async def test_a_file_without_a_whole_event_is_no_answer(log: FileEventLog, directory: Path, content: bytes) -> None:
    answer = new_answer_id()
    (directory / f"{answer}.jsonl").write_bytes(content)
    for after in (0, 1, 3):
        with pytest.raises(UnknownAnswer):
            await log.open(answer, after)


async def test_followers_poll_where_the_kernel_cannot_wake_them(
    directory: Path, another: AnotherWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_inotify(monkeypatch)
    log = FileEventLog(str(directory), Retention())
    assert not log.wakeups.working
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    reader = await log.open(answer, 1)
    read: list[Event] = []
    for seq in range(2, 5):
        await another.append(answer, [say(seq)])
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (events := await reader.read()):
                await reader.wait(LONG_SECONDS)
            read += events
    assert read == [say(2), say(3), say(4)]
    reader.close()

    mine, lease = await begin(log)
    await another.ask("request_stop", answer=mine, by="user")
    assert lease.stop_requested() == "user"
    await log.aclose()


async def test_followers_poll_where_the_kernel_watches_no_more_files(
    log: FileEventLog, another: AnotherWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)

    def used_up(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(INotify, "add_watch", used_up)
    readers = [await log.open(answer, 1) for _ in range(2)]
    waiting = asyncio.create_task(another.append(answer, [say(2)]))
    with capture_logs() as said:
        for reader in readers:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (events := await reader.read()):
                    await reader.wait(LONG_SECONDS)
            assert list(events) == [say(2)]
            await reader.wait(0)  # it asks for a watch, if it had not to wait before
            reader.close()
    await waiting
    assert [(line["event"], line["reason"]) for line in said] == [("followers_poll", os.strerror(errno.ENOSPC))]


async def test_a_follower_that_the_kernel_forgot_to_name_is_woken(log: FileEventLog, another: AnotherWorker) -> None:
    # More happens than the kernel's queue holds while this worker is busy: it then says only that it lost count.
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    noise = [new_answer_id(), new_answer_id()]
    readers = []
    waits = []
    for each in (*noise, answer):
        if each != answer:
            await another.ask("create", answer=each)
        readers.append(await log.open(each, 1))
        waits.append(asyncio.ensure_future(readers[-1].wait(LONG_SECONDS)))
    await asyncio.sleep(0)
    descriptors = [os.open(log.path(each), os.O_WRONLY | os.O_APPEND) for each in noise]
    torn = b"."  # never a whole line, so that nothing can be read
    for count in range(longest_queue() + 10):
        os.write(descriptors[count % 2], torn)  # in turn, for the kernel joins what is the same
    another._ask({"what": "append", "given": {"answer": answer, "events": [encode(say(2)).decode()]}})
    await asyncio.wait_for(waits[-1], DEADLINE_SECONDS)
    assert list(await readers[-1].read()) == [say(2)]
    await asyncio.wait(waits, timeout=DEADLINE_SECONDS)
    for descriptor in descriptors:
        os.close(descriptor)
    for reader in readers:
        reader.close()


async def test_a_lost_count_makes_producers_look_for_stops(log: FileEventLog) -> None:
    _, lease = await begin(log)
    looked = []
    lease.on_change = lambda: looked.append(True)
    log._wake_all()
    assert looked == [True]


async def test_a_file_is_watched_while_a_reader_waits_for_it(log: FileEventLog, another: AnotherWorker) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    first, second = await log.open(answer, 1), await log.open(answer, 1)
    for reader in (first, second):
        await reader.wait(0.001)
    first.close()
    waiting = asyncio.ensure_future(second.wait(LONG_SECONDS))
    await asyncio.sleep(0)
    await another.append(answer, [say(2)])
    await asyncio.wait_for(waiting, DEADLINE_SECONDS)
    second.close()
    assert not log.wakeups._watches
    assert not log.wakeups._answers


async def test_nothing_is_kept_of_answers_without_readers_and_leases(log: FileEventLog, another: AnotherWorker) -> None:
    theirs = new_answer_id()
    await another.ask("create", answer=theirs)
    descriptors = open_descriptors()
    for _ in range(20):
        answer, lease = await begin(log, say(2))
        readers = [await log.open(answer), await log.open(answer, watch=False), await log.open(theirs)]
        for reader in readers:
            await reader.wait(0.001)
        lease.release()
        lease.release()
        for reader in readers:
            reader.close()
    assert (len(log._channels), log.wakeups._watches, log.wakeups._answers) == (0, {}, {})
    assert open_descriptors() == descriptors


async def test_a_stop_is_looked_for_when_the_kernel_tells_of_it(log: FileEventLog) -> None:
    answer, lease = await begin(log)
    assert lease.stop_requested() is None
    await log.request_stop(answer, "user")
    assert lease.stop_requested() is None, "it has told of none yet"
    await until(lambda: lease.stop_requested() == "user")


async def test_a_stop_is_looked_for_each_time_where_the_kernel_does_not_tell(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_inotify(monkeypatch)
    log = FileEventLog(str(directory), Retention())
    answer, lease = await begin(log)
    assert lease.stop_requested() is None
    await log.request_stop(answer, "user")
    assert lease.stop_requested() == "user"
    await log.aclose()


async def test_a_stop_is_never_seen_half_written(log: FileEventLog, another: AnotherWorker) -> None:
    _, lease = await begin(log)

    def seen() -> str:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            lease.stop_written()  # as the kernel would tell
            if by := lease.stop_requested():
                return by
        pytest.fail("no stop was seen")

    for _ in range(100):
        asking = asyncio.create_task(another.ask("request_stop", answer=lease.answer_id, by="unwatched"))
        await asyncio.sleep(0)
        assert seen() == "unwatched"  # Looking without a pause, to see it as early as can be.
        await asking


# Sweeping


def a_sweep(directory: Path) -> Sweep:
    """The sweep of a worker that knows nothing yet."""
    return Sweep(str(directory), Retention(), lambda: True)


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


async def test_a_log_that_is_being_begun_stays_however_old_it_looks(
    log: FileEventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the clock is set between a log's first line and its name."""
    rename = os.rename

    def sweep_before(new: str, name: str) -> None:
        os.utime(new, (0, 0))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, a_sweep(directory).run(lambda _: None)).result(DEADLINE_SECONDS)
        rename(new, name)

    monkeypatch.setattr("service.eventlog.files.log.os.rename", sweep_before)
    answer, _ = await begin(log)
    assert (await log.last(answer)).seq == 1


async def test_left_overs_go_after_a_while_and_not_before(log: FileEventLog, directory: Path) -> None:
    _, running = await begin(log)
    old, young = new_answer_id(), new_answer_id()
    for answer, seconds in ((old, LEFT_OVER_SECONDS + 1), (young, LEFT_OVER_SECONDS - 10)):
        for suffix in (".new", ".stop", ".claims", ".stop.1f2e"):
            path = directory / f"{answer}{suffix}"
            path.touch()
            age(path, seconds)
    await tended(log)
    assert names(directory) == {
        f"{running.answer_id}.jsonl",
        *(f"{young}{suffix}" for suffix in (".new", ".stop", ".claims", ".stop.1f2e")),
    }


async def test_files_that_are_not_ours_are_left_alone(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(seconds=1e-9, answers=1, bytes=1))
    for name in ("notes.txt", "README", f"{new_answer_id()[:-1]}.jsonl", "x.jsonl", ".hidden"):
        path = directory / name
        path.touch()
        age(path, 1e6)
    before = names(directory)
    await tended(log)
    assert names(directory) == before
    await log.aclose()


async def expired_and_orphan(log: FileEventLog) -> tuple[str, str]:
    """Begin two answers: one beyond a retention of ten seconds, and one orphan."""
    expired = await end(log)
    age(log.path(expired), 11)
    orphan, lease = await begin(log)
    lease.release()
    return expired, orphan


async def test_one_worker_erases_at_a_time_and_the_others_still_find_orphans(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(seconds=10))
    expired, orphan = await expired_and_orphan(log)
    sweeping = os.open(directory / ".sweep", os.O_RDWR | os.O_CREAT)
    fcntl.flock(sweeping, fcntl.LOCK_EX)
    assert await tended(log) == [orphan]
    assert log.path(expired).exists()
    os.close(sweeping)
    assert await tended(log) == [orphan]
    assert not log.path(expired).exists()
    await log.aclose()


async def test_orphans_are_told_of_before_anything_is_erased(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(seconds=10))
    expired, orphan = await expired_and_orphan(log)
    there: dict[str, bool] = {}
    await log.tend(lambda answer: there.update({answer: log.path(expired).exists()}))
    assert there == {orphan: True}
    assert not log.path(expired).exists()
    await log.aclose()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a sweep makes between its steps, which take no time here."""
    pauses: list[float] = []
    sleep = asyncio.sleep
    monkeypatch.setattr(steps, "STEP_SECONDS", math.inf)  # by the number of files alone

    def counted(seconds: float) -> Coroutine[None, None, None]:
        pauses.append(seconds)
        return sleep(0)

    monkeypatch.setattr(asyncio, "sleep", counted)
    return pauses


async def with_ended(log: FileEventLog, directory: Path, count: int, seconds: float = 0.0) -> None:
    """Put so many ended logs of that age into the directory."""
    first = log.path(await end(log))
    age(first, seconds)
    for _ in range(count - 1):
        shutil.copy2(first, directory / f"{new_answer_id()}.jsonl")


async def test_logs_that_were_seen_to_have_ended_hold_up_no_sweep(
    log: FileEventLog, directory: Path, pauses: list[float]
) -> None:
    await with_ended(log, directory, 1500)
    first = 1500 / STEP_OF_UNKNOWN + 1500 / STEP
    await tended(log)
    assert first - 2 <= len(pauses) <= first + 2
    pauses.clear()
    await tended(log)
    assert len(pauses) <= 1500 / STEP_OF_KNOWN + 1


async def test_a_new_workers_first_sweep_comes_to_a_killed_workers_answers_before_thousands_of_ended_ones(
    log: FileEventLog, directory: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_ended(log, directory, 1500, seconds=5)
    orphans = []
    for _ in range(STEP // 2):
        answer, lease = await begin(log)
        lease.release()
        orphans.append(answer)
    opened = 0
    open_file = os.open

    def counted(*given: Any, **named: Any) -> int:  # noqa: ANN401 (as os.open takes it)
        nonlocal opened
        opened += 1
        return open_file(*given, **named)

    monkeypatch.setattr(os, "open", counted)
    told: dict[str, tuple[int, int]] = {}
    await a_sweep(directory).run(lambda answer: told.update({answer: (opened, len(pauses))}))
    assert set(told) == set(orphans)
    most_opened, most_paused = (max(seen) for seen in zip(*told.values(), strict=True))
    assert most_opened <= len(orphans) + 1, "the lock of the sweep, and the orphans themselves"
    assert most_paused <= 1500 / STEP_OF_UNKNOWN + 1, "their names, ages and sizes, and no ended log"


async def test_no_step_of_a_sweep_holds_up_the_event_loop(
    log: FileEventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_ended(log, directory, 3000)
    steps: list[float] = []
    began = time.thread_time()
    sleep = asyncio.sleep

    async def measured(_: float) -> None:
        nonlocal began
        steps.append(time.thread_time() - began)
        await sleep(0)
        began = time.thread_time()

    monkeypatch.setattr(asyncio, "sleep", measured)
    await a_sweep(directory).run(lambda _: None)
    steps.append(time.thread_time() - began)
    # Of some thirty steps, each takes about its share. The longest of them may have met the garbage collector.
    assert sorted(steps)[-3] <= sum(steps) / 10, steps


async def test_answers_expire_by_when_they_ended(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(seconds=100))
    young, old = await end(log), await end(log)
    running, _ = await begin(log)
    age(log.path(young), 90)
    age(log.path(old), 110)
    age(log.path(running), 1e6)
    assert await tended(log) == []
    assert names(directory) == {f"{young}.jsonl", f"{running}.jsonl"}
    age(log.path(young), 101)
    await log.aclose()
    later = FileEventLog(str(directory), Retention(seconds=100))  # This one has not seen when it was written.
    await tended(later)
    assert names(directory) == {f"{running}.jsonl"}
    await later.aclose()


@pytest.mark.parametrize("bound", [Retention(answers=3), Retention(bytes=3500)])
async def test_of_too_many_or_too_much_the_oldest_goes_first(directory: Path, bound: Retention) -> None:
    log = FileEventLog(str(directory), bound)
    answers = [await end(log, Delta(2, text="x" * 900)) for _ in range(6)]
    for seconds, answer in enumerate(reversed(answers)):
        age(log.path(answer), 10 * seconds)
    await tended(log)
    assert names(directory) == {f"{answer}.jsonl" for answer in answers[3:]}
    await log.aclose()


async def test_a_sweep_tells_what_is_left_and_how_much_room_there_is(directory: Path) -> None:
    log = FileEventLog(str(directory), Retention(answers=3))
    answers = [await end(log, Delta(2, text="x" * 900)) for _ in range(5)]
    await tended(log)
    kept = [path for path in map(log.path, answers) if path.exists()]
    sample = REGISTRY.get_sample_value
    assert sample("folyam_log_answers") == len(kept) == 3
    assert sample("folyam_log_bytes") == sum(path.stat().st_size for path in kept)
    free, size = sample("folyam_log_disk_free_bytes"), sample("folyam_log_disk_size_bytes")
    assert size == shutil.disk_usage(directory).total
    assert free is not None
    assert 0 < free <= size
    await log.aclose()


async def test_an_erased_answer_leaves_no_file(log: FileEventLog, directory: Path) -> None:
    answer, lease = await begin(log)
    lease.release()
    claimed = await log.claim(answer)
    assert claimed is not None
    claimed.mark_unwatched(30)
    await log.request_stop(answer, "user")
    assert len(names(directory)) == 4
    await log.erase(answer)
    assert names(directory) == set()


async def test_a_directory_can_be_tended_while_answers_are_written(log: FileEventLog, another: AnotherWorker) -> None:
    answer, lease = await begin(log)
    for seq in range(2, 30):
        await asyncio.gather(lease.append([say(seq)]), another.ask("tend"), tended(log))
    assert [event.seq for event in await read_all(log, answer)] == list(range(1, 30))
    await until(lambda: not log.wakeups._watches)


async def test_a_reader_of_a_log_that_was_shortened_is_told(log: FileEventLog, directory: Path) -> None:
    answer, lease = await begin(log)
    lease.release()
    reader = await log.open(answer)
    assert await reader.read()
    os.truncate(directory / f"{answer}.jsonl", 3)
    with pytest.raises(DamagedLogError):
        await reader.read()
    reader.close()


async def test_a_log_that_was_emptied_and_written_on_is_no_answer(log: FileEventLog, directory: Path) -> None:
    answer, lease = await begin(log)
    await lease.append([say(2), say(3)])
    reader = await log.open(answer, 1)
    os.truncate(directory / f"{answer}.jsonl", 0)
    await lease.append([say(4), say(5), say(6)])
    lease.release()
    with pytest.raises(DamagedLogError):
        await reader.read()
    reader.close()
    for after in (1, 2, 3):
        with pytest.raises(DamagedLogError):
            await log.open(answer, after)
    reader = await log.open(answer)
    with pytest.raises(DamagedLogError):
        await reader.read()
    reader.close()


async def test_each_file_that_is_ever_there_is_in_the_documents(log: FileEventLog, directory: Path) -> None:
    noticed = INotify(nonblocking=True)
    noticed.add_watch(directory, flags.CREATE | flags.MOVED_TO)
    name, answer = "n" * 64, new_answer_id()
    asked = to_request("x" * 40_000, model="model")
    lease = await log.create(Start.asking(answer, asked, at=1.0, names=(name,)), [Naming(name, "digest", "only")])
    await lease.append([say(2)])
    lease.release()
    claimed = await log.claim(answer)
    assert claimed is not None
    claimed.mark_unwatched(30)
    await log.request_stop(answer, "user")
    await tended(log)
    seen = {event.name.replace(answer, "<id>").replace(name, "<name>") for event in noticed.read(timeout=0)}
    noticed.close()
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("<!-- files -->")[2].partition("<!-- /files -->")[0]
    assert {re.sub(r"stop\.[0-9a-f]{8}$", "stop.<hex>", name) for name in seen} == set(
        re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    )


# Producers


@pytest.fixture
async def here(directory: Path, upstream: UpstreamProcess) -> AsyncIterator[Worker]:
    async with worker(directory.as_uri(), upstream, recovery="continue") as here:
        yield here


async def test_an_orphan_whose_log_was_damaged_is_failed_and_not_continued(
    here: Worker, directory: Path, upstream: UpstreamProcess
) -> None:
    key = new_answer_id()
    answer = await orphan_of(here, key, chunks=4, first=[{"stall_after": 2}])
    path = directory / f"{answer}.jsonl"
    path.write_bytes(path.read_bytes().partition(b"\n")[2])  # all but its start

    def last_event() -> Event:
        return decode(path.read_bytes().splitlines()[-1])

    here.supervisor.adopt(answer)
    await until(lambda: isinstance(last_event(), Failed))
    failed = last_event()
    assert isinstance(failed, Failed)
    assert failed.code == "interrupted"
    assert len(upstream.requests(key)) == 1


async def test_an_answer_on_a_full_disk_stops_costing_and_ends_when_there_is_room_again(
    here: Worker, upstream: UpstreamProcess
) -> None:
    key = new_answer_id()
    producer = await here.start(key, first=[{"endless": True, "pace": 0.001}], chunks=3000)
    with files_of_at_most(3000):
        assert (await closed(upstream, key))["closed_by"] == "client"
        await until(lambda: producer.answer_id not in here.supervisor._running)
    events = await here.follow(producer.answer_id)
    assert one_end(events)
    assert seqs_without_gaps(events)


async def test_the_note_of_time_without_a_follower_goes_with_the_answers_end(here: Worker, directory: Path) -> None:
    answer = await unwatched_orphan(here, new_answer_id(), 0)
    assert (directory / f"{answer}.unwatched").exists()
    here.supervisor.adopt(answer)
    await here.follow(answer, watch=False)
    await until(lambda: answer not in here.supervisor._running)
    assert f"{answer}.unwatched" not in names(directory)
