"""A run that is read from its start again, without what the log has of it."""

import json

import pytest

from service.answer import Attached, Said, fold
from service.errors import UpstreamError
from service.events import NO_RUN, Delta, Event, Restart, Run, Seam, Start, new_answer_id
from service.upstream.body import Joint
from service.upstream.chunks import ChunkDecoder
from service.upstream.continuation import Continuation
from service.upstream.rerun import Rerun
from service.upstream.think_tags import ThinkTagDecoder

RUN = Run("b" * 32, "http://llama:8080/v1")
OTHER = Run("c" * 32, "http://llama:8080/v1")
PIECES = [
    Delta(1, reasoning="Hm, "),
    Delta(2, reasoning="a river."),
    Delta(3, text="A river "),
    Delta(4, text="flows."),
]
CONTINUED = [Delta(1, text="river "), Delta(2, text="flows "), Delta(3, text="to the sea.")]
SAID = Said("A long river", "Hm.")


def read_again(known: Attached, pieces: list[Delta], size: int) -> tuple[list[Event], Rerun]:
    rerun = Rerun(known, 10)
    new: list[Event] = []
    for at in range(0, len(pieces), size):
        new += rerun.add(pieces[at : at + size])
    return new + rerun.end(), rerun


def voices(events: list[Event]) -> tuple[str, str]:
    deltas = [event for event in events if isinstance(event, Delta)]
    return "".join(delta.reasoning or "" for delta in deltas), "".join(delta.text or "" for delta in deltas)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("reasoning", "text"), [(0, 0), (2, 0), (12, 0), (12, 1), (12, 8), (12, 13), (12, 14)])
def test_what_is_known_is_left_out_up_to_its_last_character(size: int, reasoning: int, text: int) -> None:
    new, rerun = read_again(Attached(RUN, text, reasoning, 0), PIECES, size)
    assert voices(new) == ("Hm, a river."[reasoning:], "A river flows."[text:])
    assert [event.seq for event in new] == list(range(11, 11 + len(new)))
    assert rerun.last_seq == 10 + len(new)
    assert rerun.is_found


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("known", range(len(" flows to the sea.") + 1))
def test_what_a_continued_run_repeats_is_dropped_each_time_that_it_is_read(size: int, known: int) -> None:
    new, rerun = read_again(Attached(RUN, known, 0, 0, SAID), CONTINUED, size)
    assert voices(new) == ("", " flows to the sea."[known:])
    assert not rerun.is_anew


def test_a_continued_run_that_began_another_answer_is_told() -> None:
    said = Said("The first answer had begun in this way, and was cut.")
    pieces = [Delta(1, text="The first answer had begun in this way, "), Delta(2, text="but this one is another.")]
    new, rerun = read_again(Attached(RUN, 0, 0, 0, said), pieces, 1)
    assert rerun.is_anew
    assert voices(new) == ("", "The first answer had begun in this way, but this one is another.")


def decoded(decoder: ChunkDecoder, data: bytes, joint: Joint | None, *, whole: bool) -> list[Event]:
    """Return the events that are logged of these bytes, which come one event after the other."""
    decoder.keeps_halves = False
    events: list[Event] = []
    for line in data.splitlines(keepends=True):
        deltas = decoder.feed(line)
        events += joint.add(deltas) if joint else deltas
    if not whole:
        decoder.failure = UpstreamError("upstream_cut")
    deltas = decoder.finish()
    events += joint.add(deltas) if joint else deltas
    return [*events, *(joint.end() if whole and joint else ())]


@pytest.mark.parametrize("said", [None, SAID, Said("", "Hm, a")])
@pytest.mark.parametrize("kind", [ChunkDecoder, ThinkTagDecoder])
def test_a_run_that_is_cut_at_any_byte_is_joined_without_a_loss(kind: type[ChunkDecoder], said: Said | None) -> None:
    texts = [
        "<think>Hm, ",
        "a ri",
        "ver.</th",
        "ink>\n\n",
        "A ",
        "long river \ud83c",
        "\udf0a flows, flows",
        " to",
        " the sea.",
    ]
    if said is not None:
        texts = texts[5:] if said.text else ["a river, ", "flow", "ing.", "</think>", *texts[5:]]
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in texts]
    end = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    data = "".join(f"data: {event}\n\n" for event in (*chunks, end, "[DONE]")).encode()

    def decoder() -> ChunkDecoder:
        made = kind(0)
        if isinstance(made, ThinkTagDecoder) and said is not None and not said.text:
            made.begin_in_reasoning()
        return made

    uncut = voices(decoded(decoder(), data, Continuation(said, 0) if said else None, whole=True))
    assert "🌊 flows, flows to the sea." in uncut[1]
    for cut in range(len(data)):
        begun = decoded(decoder(), data[:cut], Continuation(said, 0) if said else None, whole=False)
        reasoning, text = voices(begun)
        rerun = Rerun(Attached(RUN, len(text), len(reasoning), 0, said), 0)
        rest = decoded(decoder(), data, rerun, whole=True)
        assert voices([*begun, *rest]) == uncut, cut


def log(*events: Event) -> list[Event]:
    return [Start(1, new_answer_id(), "m"), *events]


def test_a_continued_run_is_known_from_where_it_began() -> None:
    state = fold(
        log(
            Delta(2, run=RUN),
            Delta(3, reasoning="Hm."),
            Delta(4, text="A long river"),
            Delta(5, run=NO_RUN),
            Delta(6, run=OTHER),
            Delta(7, seam=Seam("continued", "cut")),
            Delta(8, text=" flows"),
            Delta(9, seam=Seam("reattached", "cut")),
            Delta(10, text=" to"),
        )
    )
    assert state.attached == Attached(OTHER, len(" flows to"), 0, 0, SAID)
    assert state.said == Said("A long river flows to", "Hm.")


def test_a_continuation_of_no_run_is_not_taken_for_the_run_before_it() -> None:
    for before in ([Delta(3, text="A")], [Delta(3, text="A"), Delta(4, run=NO_RUN)]):
        seam = Delta(len(before) + 3, seam=Seam("continued", "cut"))
        state = fold(log(Delta(2, run=RUN), *before, seam, Delta(seam.seq + 1, text=" river")))
        assert state.run in (None, NO_RUN)


def test_a_run_behind_a_restart_began_the_answer() -> None:
    state = fold(log(Delta(2, text="A"), Restart(3), Delta(4, run=RUN), Delta(5, text="B")))
    assert state.attached == Attached(RUN, 1, 0, 0)


def test_a_run_that_went_on_from_what_cannot_be_handed_back_is_not_followed() -> None:
    state = fold(log(Delta(2, refusal="No."), Delta(3, run=RUN), Delta(4, text="B")))
    assert state.attached is None
