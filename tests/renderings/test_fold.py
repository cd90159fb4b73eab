"""A vocabulary's messages, their numbers, and restarts, in any pieces and from any number."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadInput
from service.events import Attempt, Delta, Done, Event, Failed, Restart, Run, Seam, Start, Stopped, Timing
from service.renderings.base import WholeEncoder
from service.renderings.fold import NOTHING, FoldEncoder, Message
from tests.strategies import ANSWER, answers

END = Timing(0.1, 0.2)


class Words:
    """Two messages for a start, one for a delta and an end. A restart is an error."""

    def __init__(self) -> None:
        self.has_spoken = False
        self.finished = False
        self._text = ""

    def feed(self, event: Start | Delta | Done | Stopped | Failed) -> Iterable[Message]:
        if isinstance(event, Start):
            return [Message("created", {}), Message("begun", {})]
        if isinstance(event, Delta):
            self.has_spoken = True
            self._text += event.text or "?"
            return [Message("piece", {"text": event.text or "?"})]
        return [Message("end", {"text": self._text})]

    def begin_anew(self) -> None:
        self.has_spoken = False
        self._text = ""

    def restart(self) -> Iterable[Message]:
        self.finished = True
        return [Message("error", {})]

    def whole(self) -> tuple[int, dict[str, str]]:
        return 200, {"text": self._text}


class Numbered:
    def frame(self, number: int, message: Message) -> bytes:
        return msgspec.json.encode([number, message.kind, *message.data.values()]) + b"\n"


def encoder(after: int = NOTHING, *, merges: bool = False) -> FoldEncoder:
    return FoldEncoder(Words(), Numbered(), after=after, merges=merges)


def lines(data: bytes) -> list[list[object]]:
    return [msgspec.json.decode(line) for line in data.splitlines()]


LOG: tuple[Event, ...] = (
    Start(1, ANSWER, "model"),
    Delta(2, run=Run("run", "http://x")),
    Delta(3, text="a"),
    Delta(4, text="b"),
    Delta(5, seam=Seam("continued", "takeover")),
    Delta(6, attempt=Attempt(1)),
    Delta(7, text="c"),
    Done(8, "stop", None, END),
)
MESSAGES = [[0, "created"], [1, "begun"], [2, "piece", "a"], [3, "piece", "b"], [4, "piece", "c"], [5, "end", "abc"]]


def test_what_is_private_and_seams_are_no_messages() -> None:
    assert lines(encoder().encode(LOG)) == MESSAGES


@pytest.mark.parametrize("after", range(NOTHING, 6))
def test_behind_a_number_come_the_messages_above_it(after: int) -> None:
    assert lines(encoder(after).encode(LOG)) == MESSAGES[after + 1 :]


def test_neighbours_are_one_message_where_numbers_mean_nothing() -> None:
    assert lines(encoder(merges=True).encode(LOG[:4])) == [[0, "created"], [1, "begun"], [2, "piece", "ab"]]


@pytest.mark.parametrize("comes", ["live", "later"])
@given(events=answers(), places=st.lists(st.integers(0, 100), max_size=4))
def test_any_pieces_of_a_log_are_the_same_messages(events: list[Event], places: list[int], comes: str) -> None:
    last = max((event.seq for event in events if isinstance(event, Restart)), default=0)

    def made(pieces: Sequence[Sequence[Event]]) -> bytes:
        this = encoder()
        if comes == "later" and last:
            this.abandon(last)
        data = b""
        for piece in pieces:
            if piece and not this.finished:
                data += this.encode(piece)
        return data

    cuts = sorted({0, len(events), *(place % len(events) for place in places)})
    assert made([events[begin:end] for begin, end in pairwise(cuts)]) == made([events])


# Restarts

RESTARTED: tuple[Event, ...] = (
    Start(1, ANSWER, "model"),
    Delta(2, text="a"),
    Restart(3),
    Delta(4, text="b"),
    Stopped(5, "user"),
)


def test_a_restart_behind_a_piece_is_said_and_ends_the_body() -> None:
    this = encoder()
    assert lines(this.encode(RESTARTED)) == [[0, "created"], [1, "begun"], [2, "piece", "a"], [3, "error"]]
    assert this.finished


def test_a_follower_that_comes_behind_a_restart_gets_nothing_of_what_it_abandoned() -> None:
    this = encoder()
    this.abandon(3)
    assert lines(this.encode(RESTARTED)) == [[0, "created"], [1, "begun"], [4, "piece", "b"], [5, "end", "b"]]


def test_a_restart_before_any_piece_is_not_said_and_keeps_its_number() -> None:
    events = (RESTARTED[0], Restart(2), Delta(3, text="b"))
    assert lines(encoder().encode(events)) == [[0, "created"], [1, "begun"], [3, "piece", "b"]]
    assert lines(encoder(1).encode(events)) == [[3, "piece", "b"]]


@pytest.mark.parametrize("after", range(4))
def test_nobody_goes_on_from_what_a_restart_abandoned(after: int) -> None:
    this = encoder(after)
    this.abandon(3)
    with pytest.raises(BadInput) as caught:
        this.encode(RESTARTED)
    assert caught.value.code == "answer_restarted"


@pytest.mark.parametrize("after", [4, 5])
def test_behind_a_restart_numbers_go_on(after: int) -> None:
    this = encoder(after)
    this.abandon(3)
    assert lines(this.encode(RESTARTED)) == [[4, "piece", "b"], [5, "end", "b"]][after - 3 :]


def test_a_later_restart_of_a_resumed_body_is_said() -> None:
    this = encoder(2)
    assert this.encode(RESTARTED[:2]) == b""
    assert lines(this.encode(RESTARTED[2:])) == [[3, "error"]]


# Numbers that jump, where another producer wrote on in a log that may forget


def test_numbers_go_on_from_the_seq_behind_a_jump() -> None:
    events = (*LOG[:4], Delta(1000, text="c"), Done(1001, "stop", None, END))
    assert lines(encoder().encode(events))[-2:] == [[1000, "piece", "c"], [1001, "end", "abc"]]
    assert lines(encoder(1000).encode(events)) == [[1001, "end", "abc"]]
    assert lines(encoder(3).encode(events)) == [[1000, "piece", "c"], [1001, "end", "abc"]]


@pytest.mark.parametrize("after", [4, 999])
def test_a_number_that_a_jump_left_out_names_no_message(after: int) -> None:
    with pytest.raises(BadInput) as caught:
        encoder(after).encode((*LOG[:4], Delta(1000, text="c")))
    assert caught.value.code == "answer_restarted"


def test_a_whole_response_is_the_same_fold() -> None:
    this: WholeEncoder = encoder()
    this.advance(LOG[:3])
    this.advance(LOG[3:])
    assert this.whole() == (200, b'{"text":"abc"}')


@pytest.mark.parametrize("events", [[Start(1, ANSWER, "m")], [Start(1, ANSWER, "m"), Done(2, "stop", None, END)]])
def test_a_number_that_the_answer_has_not_reached_is_refused(events: list[Event]) -> None:
    """A body without its end would look like a whole one."""
    with pytest.raises(BadInput) as raised:
        told(encoder(9), events)
    assert raised.value.code == "bad_last_event_id"
    told(encoder(len(events)), events)


def told(follower: FoldEncoder, events: list[Event]) -> None:
    """Give a follower all that the log has."""
    follower.encode(events)
    if follower.caught_up is not None:
        follower.caught_up()
