"""A follower at the tail is called with what is appended, in the same turn of the loop, on every backend."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from service import events
from service.eventlog import EventLog, Lease, Retention, open_event_log
from service.events import Delta, Done, Event, Restart, Run, Seam, Start, Stopped, Timing, new_answer_id
from service.follower import CutShortError, Follower, encoder_at
from service.renderings import Rendering, sse
from service.renderings.ndjson import JsonLines
from service.renderings.sse import ServerSentEvents
from service.renderings.text import PlainText
from tests.eventlog import memory
from tests.eventlog.another import AnotherWorker
from tests.renderings.event_stream import parse
from tests.renderings.numbered import Numbered
from tests.upstream.process import UpstreamProcess
from tests.waiting import DEADLINE_SECONDS, until
from tests.working import PATIENT, worker

LONG_SECONDS = 60.0
SSE = ServerSentEvents()
NUMBERED = Numbered()


class Pipe:
    """A sink that takes `room` pieces until it is full. `drain` waits for `empty`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.pieces: list[bytes] = []
        self.room = room
        self.breaks = False
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def is_full(self) -> bool:
        return not self._emptied.is_set()

    def write(self, data: bytes) -> bool:
        assert not self.is_full, "written to although it is full"
        if self.breaks:
            raise OSError("it broke")
        self.pieces.append(data)
        self.room -= 1
        if self.room <= 0:
            self._emptied.clear()
        return self.room > 0

    async def drain(self) -> None:
        await self._emptied.wait()

    def empty(self, room: int) -> None:
        self.room = room
        self._emptied.set()


class Reading:
    """A follower, and what its client has got of it: by the sink, or from a task that takes its turns."""

    def __init__(self, follower: Follower, sink: Pipe) -> None:
        self.follower = follower
        self.sink = sink
        self.turns = 0
        """How often the task had something to send."""
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while (data := await self.follower.next(self.sink)) is not None:
                self.turns += 1
                if data:
                    self.sink.write(data)
                await self.sink.drain()
        finally:
            self.follower.close()

    @property
    def body(self) -> bytes:
        return b"".join(self.sink.pieces)

    def seqs(self) -> list[int]:
        return [int(message.last_event_id.partition(":")[2]) for message in parse(self.body).messages]

    async def to_the_end(self) -> bytes:
        await asyncio.wait_for(self.task, DEADLINE_SECONDS)
        return self.body


async def begin(log: EventLog) -> Lease:
    return await log.create(Start(1, new_answer_id(), "model"))


async def reading(
    log: EventLog,
    answer: str,
    *,
    after: int = 0,
    rendering: Rendering = SSE,
    sink: Pipe | None = None,
    heartbeat_seconds: float = LONG_SECONDS,
    has_left: Callable[[], bool] = lambda: False,
    on_first_chunk: Callable[[], None] | None = None,
) -> Reading:
    follower = Follower(
        await log.open(answer, after),
        rendering,
        await encoder_at(log, answer, after, rendering),
        heartbeat_seconds=heartbeat_seconds,
        on_orphan=lambda _: None,
        has_left=has_left,
        on_first_chunk=on_first_chunk,
    )
    return Reading(follower, sink or Pipe())


async def at_the_tail(log: EventLog, answer: str, **given: object) -> Reading:
    """A reader that has got everything and waits."""
    read = await reading(log, answer, **given)  # type: ignore[arg-type]
    await turns()
    return read


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def say(seq: int) -> Delta:
    return Delta(seq, text=f"w{seq} ")


def end(seq: int) -> Done:
    return Done(seq, "stop", None, Timing(0.1, 0.2))


def in_sse(answer: str, *given: Event) -> bytes:
    return SSE.encoder(answer).encode(given)


# At the tail


async def test_what_is_appended_is_written_in_the_same_turn_and_wakes_no_task(log: EventLog) -> None:
    lease = await begin(log)
    read = await at_the_tail(log, lease.answer_id)
    before = read.turns
    for seq in range(2, 6):
        await lease.append([say(seq)])
        assert read.sink.pieces[-1] == in_sse(lease.answer_id, say(seq))
        await turns()
    assert read.turns == before
    await lease.append([end(6)])
    assert read.seqs() == [1, 2, 3, 4, 5, 6]
    await read.to_the_end()
    assert read.seqs() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("rendering", [SSE, JsonLines("application/json"), PlainText()], ids=lambda each: each.name)
async def test_the_body_is_the_same_as_without_a_push(log: EventLog, rendering: Rendering) -> None:
    lease = await begin(log)
    answer = lease.answer_id
    read = await at_the_tail(log, answer, rendering=rendering)
    said: list[Event] = [
        *(say(2), Delta(3, reasoning="hm"), Delta(4, refusal="no"), Restart(5), Delta(6, run=Run("id", "at"))),
        *(Delta(7, seam=Seam("continued", "takeover")), say(8), Stopped(9, "user")),
    ]
    for event in said:
        await lease.append([event])
    encoder = rendering.encoder(answer)
    whole = b"".join(encoder.encode([event]) for event in (Start(1, answer, "model"), *said))
    assert await read.to_the_end() == rendering.preamble + whole + rendering.closing


async def test_only_what_the_log_has_is_pushed(immediate_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log = immediate_log
    lease = await begin(log)
    read = await at_the_tail(log, lease.answer_id)
    logged: list[int] = []
    write = read.sink.write

    def look(data: bytes) -> bool:
        logged.append(seq_of_last(log, lease.answer_id))
        return write(data)

    monkeypatch.setattr(read.sink, "write", look)
    for seq in (2, 3, 4):
        await lease.append([say(seq)])
    assert logged == [2, 3, 4]
    read.task.cancel()


def seq_of_last(log: EventLog, answer: str) -> int:
    """The seq of the last event in the storage, at once."""
    looking = log.last(answer)
    try:
        looking.send(None)
    except StopIteration as stop:
        return int(stop.value.seq)
    raise AssertionError("it waited")


async def test_a_follower_that_comes_in_the_turn_of_an_append_gets_each_event_once(log: EventLog) -> None:
    lease = await begin(log)
    answer = lease.answer_id
    came: list[Reading] = []
    for seq in range(2, 12, 2):
        came.append(await reading(log, answer, after=seq - 2))
        await lease.append([say(seq)])  # before its first step
        came.append(await reading(log, answer, after=seq - 1))
        await asyncio.sleep(0)
        await lease.append([say(seq + 1)])  # in its first steps
    await lease.append([end(12)])
    for number, read in enumerate(came):
        await read.to_the_end()
        assert read.seqs()[-1] == 12
        assert words(read) == "".join(f"w{seq} " for seq in range(max(2, number + 1), 12))


def words(read: Reading) -> str:
    deltas = [message.data for message in parse(read.body).messages if message.event == "delta"]
    return "".join(delta.partition('"text":"')[2].removesuffix('"}') for delta in deltas)


# A slow reader


async def test_a_reader_whose_transport_is_full_is_an_offset_until_it_has_caught_up(log: EventLog) -> None:
    lease = await begin(log)
    answer = lease.answer_id
    read = await at_the_tail(log, answer, sink=Pipe(room=3))
    for seq in range(2, 20):
        await lease.append([say(seq)])  # `Pipe.write` checks that a full one is left alone
        await turns(1)
    assert read.seqs() == [1, 2, 3]
    read.sink.empty(room=100)
    await turns()
    assert read.seqs() == [1, 2, 3, 19], "merged"
    await lease.append([say(20)])
    assert read.seqs() == [1, 2, 3, 19, 20], "pushed again"
    await lease.append([end(21)])
    await read.to_the_end()
    assert words(read) == "".join(f"w{seq} " for seq in range(2, 21))


@pytest.mark.parametrize("seed", range(20))
async def test_no_event_is_lost_or_doubled_whenever_readers_stall_and_come_back(log: EventLog, seed: int) -> None:
    numbers = random.Random(seed)  # noqa: S311 (a test's choices)
    lease = await begin(log)
    last = 120
    reads: list[tuple[int, Reading]] = []
    seq = 1
    while seq < last:
        count = numbers.choice((1, 1, 1, 2, 5))
        await lease.append([say(each) for each in range(seq + 1, seq + count + 1)])
        seq += count
        if numbers.random() < 0.1:
            after = numbers.randrange(seq)
            reads.append((after, await reading(log, lease.answer_id, after=after, sink=Pipe(numbers.randrange(1, 9)))))
        for _, read in reads:
            if read.sink.is_full and numbers.random() < 0.2:
                read.sink.empty(numbers.randrange(1, 9))
        await turns(numbers.choice((0, 0, 1, 3)))
    await lease.append([end(seq + 1)])
    for after, read in reads:
        while not read.task.done():
            read.sink.empty(numbers.randrange(1, 9))
            await turns(1)
        await read.to_the_end()
        assert words(read) == "".join(f"w{each} " for each in range(max(2, after + 1), seq + 1))
        assert read.seqs() == sorted(set(read.seqs()))
        assert read.seqs()[-1] == seq + 1


# Followers do not hurt each other


async def test_a_push_that_raises_ends_that_response_alone(log: EventLog) -> None:
    lease = await begin(log)
    broken, other = [await at_the_tail(log, lease.answer_id) for _ in range(2)]
    broken.sink.breaks = True
    await lease.append([say(2)])
    with pytest.raises(OSError, match="it broke"):
        await broken.to_the_end()
    await lease.append([end(3)])
    await other.to_the_end()
    assert other.seqs() == [1, 2, 3]
    assert broken.seqs() == [1]


async def test_a_push_may_close_other_followers(log: EventLog) -> None:
    lease = await begin(log)
    reads = [await at_the_tail(log, lease.answer_id) for _ in range(4)]

    def close_all(data: bytes) -> bool:
        del data
        for read in reads:
            read.follower.close()
        return True

    for read in reads:
        read.sink.write = close_all  # type: ignore[method-assign]
    await lease.append([say(2)])
    assert not lease.watched()
    for read in reads:
        read.task.cancel()


async def test_a_reader_that_has_disconnected_is_not_written_to(log: EventLog) -> None:
    lease = await begin(log)
    read = await at_the_tail(log, lease.answer_id)
    read.task.cancel()
    await lease.append([say(2)])
    assert read.seqs() == [1]
    await turns()
    assert read.task.cancelled()
    await lease.append([say(3)])
    assert read.seqs() == [1]
    assert not lease.watched()


# What else a follower says


async def test_a_push_puts_the_sign_of_life_off_and_silence_shows_it(log: EventLog) -> None:
    lease = await begin(log)
    read = await at_the_tail(log, lease.answer_id, heartbeat_seconds=0.4)
    for seq in range(2, 10):
        await asyncio.sleep(0.1)
        await lease.append([say(seq)])
    assert SSE.heartbeat not in read.sink.pieces
    await until(lambda: read.sink.pieces[-1] == SSE.heartbeat)
    await lease.append([say(10)])
    assert read.sink.pieces[-1] == in_sse(lease.answer_id, say(10))
    read.task.cancel()


async def test_the_first_chunk_is_told_once_when_it_is_pushed(log: EventLog) -> None:
    lease = await begin(log)
    told: list[int] = []
    sink = Pipe()
    read = await at_the_tail(log, lease.answer_id, sink=sink, on_first_chunk=lambda: told.append(len(sink.pieces)))
    for seq in (2, 3):
        await lease.append([say(seq)])
        assert told == [1]
    read.task.cancel()


async def test_a_follower_that_is_pushed_to_is_cut_when_its_worker_has_left(log: EventLog) -> None:
    lease = await begin(log)
    has_left = False
    read = await at_the_tail(log, lease.answer_id, has_left=lambda: has_left)
    await lease.append([say(2)])
    has_left = True
    lease.hand_over()
    with pytest.raises(CutShortError):
        await read.to_the_end()
    assert read.seqs() == [1, 2]


async def test_a_follower_goes_on_from_the_storage_when_the_lease_goes_elsewhere_and_back(log: EventLog) -> None:
    lease = await begin(log)
    answer = lease.answer_id
    read = await at_the_tail(log, answer)
    await lease.append([say(2)])
    lease.release()
    claimed = await log.claim(answer)
    assert claimed is not None
    last = claimed.last_seq
    await claimed.append([Delta(last + 1, text="w3 ")])
    await turns()
    await claimed.append([Delta(last + 2, text="w4 ")])
    assert read.seqs()[-1] == last + 2, "pushed again"
    await claimed.append([end(last + 3)])
    await read.to_the_end()
    assert words(read) == "w2 w3 w4 "


async def test_no_follower_is_pushed_past_what_another_worker_wrote(log: EventLog, url: str) -> None:
    other = open_event_log(url, Retention())
    lease = await begin(other)
    read = await at_the_tail(log, lease.answer_id)
    # In one turn, so that no notification has come.
    await lease.append([say(2)])
    lease.release()
    claimed = await log.claim(lease.answer_id)
    assert claimed is not None
    await claimed.append([Delta(claimed.last_seq + 1, text="w3 ")])
    await claimed.append([end(claimed.last_seq + 1)])
    await read.to_the_end()
    assert words(read) == "w2 w3 "
    await other.aclose()


async def test_another_workers_answer_is_read_as_ever(log: EventLog, another: AnotherWorker) -> None:
    answer = new_answer_id()
    await another.ask("create", answer=answer)
    read = await at_the_tail(log, answer)
    await another.append(answer, [say(2)])
    await until(lambda: read.seqs() == [1, 2])
    await another.append(answer, [say(3), end(4)])
    await read.to_the_end()
    assert read.seqs() == [1, 2, 3, 4]


# A log that takes its time


def slow_log(turns: int) -> EventLog:
    """A log whose appends take so many turns of the loop."""
    log = memory.open_event_log(f"memory://{new_answer_id()}", Retention())
    assert isinstance(log, memory.MemoryEventLog)
    log.turns = turns
    return log


async def test_a_push_comes_from_the_logs_word_and_not_from_the_producers_call() -> None:
    log = slow_log(turns=2)
    lease = await begin(log)
    assert not lease.append_now([say(2)])
    read = await at_the_tail(log, lease.answer_id)
    for seq in (2, 3):
        appending = asyncio.create_task(lease.append([say(seq)]))
        await asyncio.sleep(0)
        assert read.seqs()[-1] == seq - 1
        await appending
        assert read.seqs()[-1] == seq
    read.task.cancel()
    await log.aclose()


@pytest.mark.parametrize("batch", [1, 7])
async def test_an_answer_is_whole_in_a_log_that_takes_its_time(upstream: UpstreamProcess, batch: int) -> None:
    async with worker(slow_log(turns=3), upstream) as here:
        producer = await here.start(chunks=100, batch=batch, pace=0.0005)
        read = await reading(here.log, producer.answer_id)
        await read.to_the_end()
    assert words(read) == "".join(f"w{number} " for number in range(1, 101))
    assert read.seqs() == sorted(set(read.seqs()))


# From the upstream to the sink


async def test_a_chunk_passes_from_the_upstream_to_the_sink_without_a_task(
    immediate_log: EventLog, upstream: UpstreamProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = immediate_log
    tasks: list[object] = []
    append = type(await begin(log)).append

    async def appended(lease: Lease, deltas: Sequence[Event]) -> None:
        tasks.append(deltas)
        await append(lease, deltas)

    async with worker(log, upstream) as here:
        producer = await here.start(key := new_answer_id(), chunks=20, on_demand=True)
        read = await reading(log, producer.answer_id)
        await asyncio.to_thread(upstream.step, key)
        await until(lambda: "w1 " in words(read))
        monkeypatch.setattr(type(producer._lease), "append", appended)
        before = read.turns
        for number in range(2, 20):
            await asyncio.to_thread(upstream.step, key)
            await until(lambda last=f"w{number} ": last in words(read))  # type: ignore[misc]
        assert tasks == []
        assert read.turns == before
        producer.stop("user")
        await read.to_the_end()


@pytest.mark.parametrize("number", [2, 3, 5])
async def test_a_lease_that_is_lost_in_a_push_is_the_producers_end_and_nothing_is_told(
    log: EventLog, upstream: UpstreamProcess, number: int
) -> None:
    async with worker(log, upstream) as here:
        producer = await here.start(key := new_answer_id(), chunks=20, on_demand=True)
        read = await reading(log, producer.answer_id)
        for each in range(1, number):
            await asyncio.to_thread(upstream.step, key)
            await until(lambda last=f"w{each} ": last in words(read))  # type: ignore[misc]
        producer._lease.release()
        await asyncio.to_thread(upstream.step, key)
        await asyncio.wait_for(producer.task, DEADLINE_SECONDS)
        assert [event.seq for event in await here.read(producer.answer_id)] == list(range(1, number + 1))
        assert read.seqs() == list(range(1, number + 1))
        read.task.cancel()


async def test_an_answer_that_grows_too_long_by_pushes_ends_with_the_chunk_above_the_limit(
    url: str, upstream: UpstreamProcess
) -> None:
    limits = replace(PATIENT, answer_bytes=2000)
    async with worker(url, upstream, limits=limits) as here:
        producer = await here.start(key := new_answer_id(), chunks=1000, on_demand=True)
        read = await reading(here.log, producer.answer_id)
        asked = 0
        while producer._lease.size <= limits.answer_bytes:
            size = producer._lease.size
            await asyncio.to_thread(upstream.step, key)
            await until(lambda size=size: producer._lease.size > size)  # type: ignore[misc]
            asked += 1
        await read.to_the_end()
        assert read.seqs() == list(range(1, asked + 3))
        assert b"answer_too_long" in read.sink.pieces[-1]


# One rendering for all


async def test_an_event_is_encoded_once_for_the_log_and_all_followers(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await begin(log)
    lines = JsonLines("application/json")
    reads = [
        await at_the_tail(log, lease.answer_id, rendering=each) for each in (SSE, lines, SSE, lines, PlainText(), SSE)
    ]
    await lease.append([say(2)])
    encoded: list[Sequence[Event]] = []
    encode = events._encode_lines

    def counted(given: Sequence[Event]) -> bytes:
        encoded.append(given)
        return encode(given)

    monkeypatch.setattr(events, "_encode_lines", counted)
    for seq in (3, 4):
        encoded.clear()
        await lease.append([say(seq)])
        assert [list(each) for each in encoded] == [[say(seq)]]
        pieces = [read.sink.pieces[-1] for read in reads]
        assert pieces[0] is pieces[2] is pieces[5], "framed once"
        assert pieces[0] == in_sse(lease.answer_id, say(seq))
        assert pieces[1] is pieces[3]
        assert pieces[4] == f"w{seq} ".encode()
    for read in reads:
        read.task.cancel()


async def test_followers_of_two_answers_share_nothing(log: EventLog) -> None:
    leases = [await begin(log) for _ in range(2)]
    reads = [await at_the_tail(log, lease.answer_id) for lease in leases]
    same = say(2)
    for lease in leases:
        await lease.append([same])
    for lease, read in zip(leases, reads, strict=True):
        assert read.sink.pieces[-1].endswith(in_sse(lease.answer_id, same))
        assert f"id: {lease.answer_id}:2".encode() in read.body
        read.task.cancel()


async def test_a_rendering_that_remembers_keeps_its_own(log: EventLog) -> None:
    lease = await begin(log)
    early = await at_the_tail(log, lease.answer_id, rendering=NUMBERED)
    await lease.append([say(2)])
    late = await reading(log, lease.answer_id, after=2, rendering=NUMBERED)
    await turns()
    await lease.append([say(3)])
    assert early.sink.pieces[-1] != late.sink.pieces[-1]
    await lease.append([end(4)])
    whole = NUMBERED.encoder(lease.answer_id)
    given: list[list[Event]] = [[Start(1, lease.answer_id, "model")], [say(2)], [say(3)], [end(4)]]
    messages = b"".join(map(whole.encode, given))
    assert await early.to_the_end() == NUMBERED.opening + NUMBERED.preamble + messages + NUMBERED.closing
    late.task.cancel()


async def test_an_encoder_that_ends_the_body_early_ends_it_in_a_push(log: EventLog) -> None:
    lease = await begin(log)
    read = await at_the_tail(log, lease.answer_id, rendering=NUMBERED)
    for event in (say(2), Restart(3), say(4)):
        await lease.append([event])
    assert (await read.to_the_end()).endswith(b"error\n")
    await lease.append([say(5)])
    assert not lease.watched()


def test_an_encoder_is_shared_while_an_answer_has_followers_and_not_kept() -> None:
    answer = new_answer_id()
    first, second = SSE.encoder(answer), SSE.encoder(answer)
    assert first is second
    assert SSE.encoder(new_answer_id()) is not first
    assert answer in sse._ENCODERS
    del first, second
    assert answer not in sse._ENCODERS
