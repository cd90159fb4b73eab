"""Deliberate defects of the service, which the harness must detect.

`tests.faults.worker` applies one of them in each worker, before the application is made.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from service import follower, producer
from service.eventlog.files import lease, log, logfile, reader
from service.eventlog.files.lease import FileLease
from service.eventlog.files.reader import FileReader
from service.events import Delta, Done, Event, Failed, Terminal, Timing
from service.lifecycle import Cause, State
from service.renderings.fold import FoldEncoder
from service.upstream.overlap import Overlap

Sabotage = Callable[[], None]


def no_lease() -> None:
    """Every worker takes every lease as free."""
    _replace(log, "lock", lambda *_: True)
    for each in (lease, reader):
        _replace(each, "is_locked_by_another", lambda *_: False)


def told_before_logged() -> None:
    """Followers get events before the log: the last event of each append is written with the next append."""
    append = FileLease.append

    async def late(self: FileLease, events: Sequence[Event]) -> None:
        held: list[Event] = getattr(self, "held", [])
        told = [*held, *events]
        if isinstance(told[-1], Terminal):
            await append(self, told)
            return
        self.held = told[-HELD_BACK:]  # type: ignore[attr-defined]
        if len(told) > HELD_BACK:
            await append(self, told[:-HELD_BACK])
        for each in self._channel._readers:
            if isinstance(each, FileReader):
                early(each).extend(events)
        self._channel.wake()

    read = FileReader.read

    def early(reader: FileReader) -> list[Event]:
        return EARLY.setdefault(id(reader), [])

    async def read_early(self: FileReader) -> Sequence[Event]:
        sent = LAST.get(id(self), 0)
        logged = [event for event in await read(self) if event.seq > sent]
        last = logged[-1].seq if logged else sent
        unlogged = [event for event in early(self) if event.seq > last]
        early(self).clear()
        events = [*logged, *unlogged]
        if events:
            LAST[id(self)] = events[-1].seq
        return events

    close = FileReader.close

    def forget(self: FileReader) -> None:
        EARLY.pop(id(self), None)
        LAST.pop(id(self), None)
        close(self)

    wait = FileReader.wait

    _replace(FileLease, "append", late)
    _replace(FileLease, "append_now", lambda *_: False)
    _replace(FileReader, "read", read_early)
    _replace(FileReader, "wait", lambda self, seconds, _=None: wait(self, seconds))  # No push: all read.
    _replace(FileReader, "close", forget)


HELD_BACK = 8
EARLY: dict[int, list[Event]] = {}
LAST: dict[int, int] = {}


def no_end() -> None:
    """The terminal event is not written."""
    append = FileLease.append

    async def endless(self: FileLease, events: Sequence[Event]) -> None:
        kept = [event for event in events if not isinstance(event, Terminal)]
        if kept:
            await append(self, kept)

    async def unmoved(self: Any, answer_id: str) -> None:  # noqa: ANN401 (a method of any class)
        """The terminal event is not written, and no take-over adds it."""

    from service.supervisor import Supervisor  # noqa: PLC0415 (only where it is broken)

    _replace(FileLease, "append", endless)
    _replace(FileLease, "append_now", lambda *_: False)
    _replace(Supervisor, "_adopt", unmoved)


def no_takeover() -> None:
    """Orphans are not taken over."""
    from service.supervisor import Supervisor  # noqa: PLC0415 (only where it is broken)

    _replace(Supervisor, "adopt", lambda *_: None)


def false_done() -> None:
    """A failure is reported as a success."""
    end = producer.Producer._end

    async def lie(self: producer.Producer, terminal: Terminal) -> None:
        if isinstance(terminal, Failed):
            terminal = Done(terminal.seq, "stop", None, Timing(None, 0.0))
        await end(self, terminal)

    _replace(producer.Producer, "_end", lie)


def lost_delta() -> None:
    """A follower sometimes skips an event."""
    encode = follower.Follower._encode

    def skip(self: follower.Follower, events: Sequence[Event]) -> bytes:
        kept = [event for event in events if not (isinstance(event, Delta) and event.seq % 37 == 0)]
        return encode(self, kept or events[-1:])

    _replace(follower.Follower, "_encode", skip)


def doubled_delta() -> None:
    """A resume repeats the last event."""
    _replace(log, "place", lambda descriptor, after: logfile.place(descriptor, max(0, after - 1)))


def deaf_to_leaving() -> None:
    """An answer without a follower goes on without a limit, and is paid for."""
    _replace(FileLease, "watched", lambda _: True)


def undeclared_move() -> None:
    """A producer moves from streaming to waiting, which the table does not allow."""
    move = producer.Producer._move

    def stray(self: producer.Producer, cause: Cause) -> None:
        move(self, cause)
        if cause is Cause.CHUNK:
            self._state = State.WAITING

    _replace(producer.Producer, "_move", stray)


def doubled_seam() -> None:
    """What a continuation repeats of the given text is not dropped."""

    def keep(_: Overlap, piece: str, *, last: bool = False) -> str:
        del last
        return piece

    _replace(Overlap, "add", keep)


def lost_seam() -> None:
    """A continuation loses the first character that is new."""
    add = Overlap.add

    def drop(self: Overlap, piece: str, *, last: bool = False) -> str | None:
        new = add(self, piece, last=last)
        return new and new[1:]

    _replace(Overlap, "add", drop)


def numbers_by_worker() -> None:
    """The numbers of messages begin at another one in each worker."""
    begin = FoldEncoder.__init__

    def shifted(self: FoldEncoder, *args: Any, **named: Any) -> None:  # noqa: ANN401 (those of any encoder)
        begin(self, *args, **named)
        self._next = os.getpid() % 3

    _replace(FoldEncoder, "__init__", shifted)


SABOTAGES: dict[str, Sabotage] = {
    each.__name__: each
    for each in (
        no_lease,
        told_before_logged,
        no_end,
        no_takeover,
        false_done,
        lost_delta,
        doubled_delta,
        deaf_to_leaving,
        undeclared_move,
        doubled_seam,
        lost_seam,
        numbers_by_worker,
    )
}


def _replace(owner: object, name: str, by: Callable[..., Any]) -> None:
    setattr(owner, name, by)
