"""Reasoning that a model writes inline, between tags."""

import json

import pytest

from service.events import Delta
from service.upstream.think_tags import BLANKS, REST, Manner, ThinkTagDecoder, thinks_inline
from tests.upstream.bodies import DONE, chunk, data, end, say


def decoded(*pieces: bytes, in_reasoning: bool = False) -> tuple[str, str]:
    """The reasoning and the text of a stream that comes in these pieces."""
    decoder = ThinkTagDecoder(1)
    if in_reasoning:
        decoder.begin_in_reasoning()
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.finish()
    assert decoder.failure is None
    assert [delta.seq for delta in deltas] == list(range(2, 2 + len(deltas)))
    assert all(delta.text or delta.reasoning or delta.refusal for delta in deltas)
    return "".join(delta.reasoning or "" for delta in deltas), "".join(delta.text or "" for delta in deltas)


@pytest.mark.parametrize(
    ("written", "reasoning", "text"),
    [
        ("<think>Hm.</think>Hello", "Hm.", "Hello"),
        ("\n<think>\nHm. é <b>\n</think>\n\nHello\n", "Hm. é <b>\n", "Hello\n"),
        ("<think>\n\n</think>\n\nHello", "", "Hello"),
        ("<think>a </thin </thinking </think> b", "a </thin </thinking ", "b"),
        ("<think>Hm.", "Hm.", ""),
        ("<think>Hm.</thi", "Hm.</thi", ""),
        ("<thi", "", "<thi"),
        ("  ", "", "  "),
        ("  Hello", "", "  Hello"),
        ("<thing>Hello", "", "<thing>Hello"),
        ("Hello <think>no</think>", "", "Hello <think>no</think>"),
        ("<think>Hm.</think>Write <think>x</think>", "Hm.", "Write <think>x</think>"),
        ("Hm.</think>Hello", "", "Hm.</think>Hello"),
    ],
)
def test_tags_at_the_start_are_reasoning_wherever_the_text_is_split(written: str, reasoning: str, text: str) -> None:
    assert decoded(say(written)) == (reasoning, text)
    assert decoded(*(say(character) for character in written)) == (reasoning, text)
    for cut in range(len(written) + 1):
        assert decoded(say(written[:cut]), say(written[cut:])) == (reasoning, text)


@pytest.mark.parametrize(
    ("written", "reasoning", "text"),
    [
        (" so.</think>\n\nHello", " so.", "Hello"),
        ("</think>Hello", "", "Hello"),
        ("</thin k", "</thin k", ""),
        (" so.</thi", " so.</thi", ""),
        ("\n", "\n", ""),
        ("\n so", "\n so", ""),
        ("<think>\nHm, so.</think>Hello", "Hm, so.", "Hello"),
        ("\n<think>Hm, so", "Hm, so", ""),
        ("<thi", "<thi", ""),
        ("<thing> <think></think>Hello </think>", "<thing> <think>", "Hello </think>"),
    ],
)
def test_what_continues_a_reasoning_is_reasoning_up_to_the_second_tag(written: str, reasoning: str, text: str) -> None:
    assert decoded(say(written), in_reasoning=True) == (reasoning, text)
    assert decoded(*(say(character) for character in written), in_reasoning=True) == (reasoning, text)
    for cut in range(len(written) + 1):
        assert decoded(say(written[:cut]), say(written[cut:]), in_reasoning=True) == (reasoning, text)


def test_the_bytes_of_a_stream_may_be_split_anywhere() -> None:
    body = say("<thi") + say("nk>Hm. é</th") + say("ink>\nHell") + say("o") + end() + DONE
    for cut in range(len(body) + 1):
        assert decoded(body[:cut], body[cut:]) == ("Hm. é", "Hello")


def test_reasoning_in_its_own_field_stays_there() -> None:
    assert decoded(data(chunk({"reasoning_content": "<think>"})), say("Hello")) == ("<think>", "Hello")


def test_half_a_character_before_a_tag_is_mended() -> None:
    halves = [json.dumps("😀")[1:7], json.dumps("😀")[7:13]]
    events = [f'data: {{"choices":[{{"delta":{{"content":"{part}"}}}}]}}\n\n'.encode() for part in halves]
    assert decoded(say("<think>"), *events, say("</think>"), *events) == ("😀", "😀")
    assert decoded(say("<think>"), events[0]) == ("\ufffd", "")


def test_a_chunk_of_a_tag_alone_makes_no_delta() -> None:
    decoder = ThinkTagDecoder(1)
    assert decoder.feed(say("<think>") + say("\n")) == []
    assert decoder.feed(say("Hm.")) == [Delta(2, reasoning="Hm.")]


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-r1",
        "deepseek-r1:14b",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "qwq:32b",
        "Qwen/QwQ-32B-Preview",
        "qwen3:8b",
        "Qwen/Qwen3-235B-A22B-Thinking-2507",
        "HuggingFaceTB/SmolLM3-3B",
        "MiniMaxAI/MiniMax-M2",
    ],
)
def test_models_that_write_tags_are_known(model: str) -> None:
    assert thinks_inline(model)


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "smollm2-135m-instruct", "deepseek-chat", "qwen2.5:7b", "er1c", ""])
def test_other_models_are_not(model: str) -> None:
    assert not thinks_inline(model)


def test_a_text_behind_reasoning_in_its_own_field_is_text_where_an_answer_is_continued_from_its_reasoning() -> None:
    # A server with a parser of its own sends the rest of the reasoning in the field, and no tag.
    decoder = ThinkTagDecoder(1)
    decoder.begin_in_reasoning()
    deltas = decoder.feed(data(chunk({"reasoning_content": "so."})) + say("Hello") + say(" you") + end() + DONE)
    assert deltas == [Delta(2, reasoning="so."), Delta(3, text="Hello"), Delta(4, text=" you")]


def test_reasoning_that_is_continued_between_tags_ends_with_its_tag() -> None:
    decoder = ThinkTagDecoder(1)
    decoder.begin_in_reasoning()
    deltas = decoder.feed(say("so.</think>Hello") + end() + DONE)
    assert deltas == [Delta(2, reasoning="so."), Delta(3, text="Hello")]


@pytest.mark.parametrize("looks_for_tags", [False, True])
@pytest.mark.parametrize(
    ("pieces", "reasoning", "text"),
    [
        ((say("so.</thi"), say("nk>\n\nHel"), say("lo</think>")), "so.", "Hello</think>"),
        ((say("Hel"), say("lo")), "", "Hello"),
        ((say("Hello"), data(chunk({"reasoning_content": "so."})), say(" you </think>")), "so.", "Hello you </think>"),
        ((say("x" * REST), say("x"), say("</think>Hello")), "", "x" * REST + "x</think>Hello"),
    ],
)
def test_a_text_behind_a_reasoning_in_a_field_is_its_rest_if_a_tag_ends_it(
    pieces: tuple[bytes, ...], reasoning: str, text: str, *, looks_for_tags: bool
) -> None:
    decoder = ThinkTagDecoder(1, Manner(in_field=looks_for_tags))
    decoder.begin_in_reasoning(looks_for_tags=looks_for_tags)
    deltas = [delta for piece in (*pieces, end(), DONE) for delta in decoder.feed(piece)] + decoder.finish()
    assert [delta.seq for delta in deltas] == list(range(2, 2 + len(deltas)))
    assert "".join(delta.reasoning or "" for delta in deltas) == reasoning
    assert "".join(delta.text or "" for delta in deltas) == text


def test_a_text_behind_a_reasoning_in_a_field_waits_for_no_more_than_its_limit() -> None:
    decoder = ThinkTagDecoder(1, Manner(in_field=True))
    decoder.begin_in_reasoning()
    assert decoder.feed(say("x" * REST)) == []
    assert decoder.feed(say("y")) == [Delta(2, text="x" * REST + "y")]
    assert decoder.feed(say("z")) == [Delta(3, text="z")]


def test_a_server_that_writes_tags_again_is_believed() -> None:
    manner = Manner(in_field=True)
    ThinkTagDecoder(1, manner).feed(say("<think>Hm."))
    decoder = ThinkTagDecoder(1, manner)
    decoder.begin_in_reasoning()
    assert decoder.feed(say("so")) == [Delta(2, reasoning="so")]


def test_blanks_without_end_are_text_and_fill_no_memory() -> None:
    decoder = ThinkTagDecoder(1)
    deltas = [delta for _ in range(100) for delta in decoder.feed(say(" " * BLANKS))]
    assert "".join(delta.text or "" for delta in deltas) == " " * BLANKS * 100
