from hypothesis import given

from service.events import Delta, Done, Event, Failed, Restart, Start, Stopped, Timing
from service.question import to_request
from service.renderings.text import PlainText
from tests.strategies import ANSWER, answers

TEXT = PlainText()
DONE = Done(4, "stop", None, Timing(0.1, 0.2))


def test_a_whole_answer_is_its_text_and_refusal_alone() -> None:
    events: list[Event] = [
        Start.asking(ANSWER, to_request("a secret question", model="model"), at=1.5),
        Delta(2, reasoning="thinking"),
        Delta(3, text="é😀\r\n"),
        Delta(4, refusal="no"),
        DONE,
    ]
    assert TEXT.encoder(ANSWER).encode(events) == "é😀\r\nno".encode()


def test_an_answer_that_is_not_whole_says_so_on_a_line_of_its_own() -> None:
    said = Delta(2, text="half an ans")
    cases: list[tuple[Event, str]] = [
        (Stopped(3, "user"), "[stopped: user]"),
        (Stopped(3, "unwatched"), "[stopped: unwatched]"),
        (Stopped(3, "shutdown"), "[stopped: shutdown]"),
        (Failed(3, "upstream_cut", "The connection was cut.", retryable=True), "[failed: The connection was cut.]"),
        (Restart(3), "[restarted: the answer begins anew]"),
    ]
    for event, line in cases:
        assert TEXT.encoder(ANSWER).encode([said, event]).decode().split("\n") == ["half an ans", line, ""]


@given(answers())
def test_any_answer_is_its_words_in_their_order(events: list[Event]) -> None:
    body = TEXT.encoder(ANSWER).encode(events).decode()
    place = 0
    for event in events:
        if isinstance(event, Delta):
            place = body.index(event.text or event.refusal or "", place) + len(event.text or event.refusal or "")


def test_there_is_no_room_for_heartbeats() -> None:
    assert (TEXT.preamble, TEXT.heartbeat) == (b"", b"")
    assert TEXT.media_type == "text/plain; charset=utf-8"
