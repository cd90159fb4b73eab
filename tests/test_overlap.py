"""What a continuation repeats of the text that it goes on from."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.upstream.overlap import ANEW, UNALIGNED, Overlap, split
from tests.seams import PROSE, REPETITIVE, SERVERS, AtSeam, seams

LONG = "The river rises in the Black Forest, and it flows through ten countries."


def joined(said: str, pieces: list[str]) -> tuple[str, bool]:
    """Return the whole text, and whether the continuation began anew."""
    overlap = Overlap(said)
    new = ""
    found = False
    for piece in pieces:
        if found:
            new += piece
        elif (more := overlap.add(piece)) is not None:
            found = True
            new += more
    if not found:
        last = overlap.add("", last=True)
        assert last is not None
        new += last
    return said + new, overlap.is_anew


WAYS = [
    pytest.param("A river", " flows", "A river flows", id="exactly"),
    pytest.param("the riv", "er flows", "the river flows", id="exactly, within a word"),
    pytest.param("w1 w2 ", " w3 ", "w1 w2 w3 ", id="a blank again"),
    pytest.param("w1 w2 ", "w3 ", "w1 w2 w3 ", id="a blank less"),
    pytest.param("one.\n\n", "\n\nTwo.", "one.\n\nTwo.", id="an empty line again"),
    pytest.param("one.\n", "\n\nTwo.", "one.\n\nTwo.", id="an empty line of which a half was known"),
    pytest.param("one.\n\n", " Two.", "one.\n\nTwo.", id="another white space"),
    pytest.param("one.\n\n", "Two.", "one.\n\nTwo.", id="white space stripped"),
    pytest.param("A river ", "river flows", "A river flows", id="the last word, stripped"),
    pytest.param("A river", "river flows", "A river flows", id="the last word"),
    pytest.param("A river", "river", "A river", id="the last word and nothing more"),
    pytest.param("A river", " rivers", "A river rivers", id="another word that begins like the last one"),
    pytest.param("the riv", "river flows", "the river flows", id="the last word, which was half known"),
    pytest.param("and it flows", "it flows on", "and it flows on", id="the last words"),
    pytest.param("The river. The riv", "river flows", "The river. The river flows", id="a half word that was said"),
    pytest.param("It is árvíz🌊", "árvíz🌊 so", "It is árvíz🌊 so", id="the last word with its sign"),
    pytest.param("First,", "First, we", "First, we", id="from the start, with its comma"),
    pytest.param(LONG, f"{LONG} {LONG}", f"{LONG} {LONG}", id="from the start, and then once more"),
    pytest.param("It is long. It flows.", "It flows. So", "It is long. It flows. So", id="the last sentence"),
    pytest.param("1. **Light**: six", "**Light**: six hours", "1. **Light**: six hours", id="the last words, bold"),
    pytest.param(
        "我们在河边散步,一边走一边聊天", "一边走一边聊天。", "我们在河边散步,一边走一边聊天。", id="no spaces"
    ),
    pytest.param("The quick brown", "The quick brown fox", "The quick brown fox", id="from the start"),
    pytest.param("  The quick ", "The quick brown", "  The quick brown", id="from the start, stripped"),
    pytest.param(LONG, LONG + " And", LONG + " And", id="from the start, long"),
    pytest.param(LONG, LONG, LONG, id="the whole text and nothing more"),
    pytest.param("A river", "", "A river", id="nothing"),
    pytest.param("A river ", " ", "A river ", id="a blank again and nothing more"),
    pytest.param("A river", "\n", "A river\n", id="a line end alone"),
    pytest.param("", "A river", "A river", id="nothing was known"),
    pytest.param(" \n", "A river", " \nA river", id="white space was known"),
    # What an exact continuation may say by itself.
    pytest.param("ha", "ha ha", "haha ha", id="a syllable twice"),
    pytest.param("very", " very good", "very very good", id="a word twice"),
    pytest.param("in", " into", "in into", id="a word that begins like the last one"),
    pytest.param("0, 0", ", 0, 0", "0, 0, 0, 0", id="numbers"),
    pytest.param("1", "1", "11", id="a digit twice"),
    pytest.param("</div>\n</div>", "\n</div>\n", "</div>\n</div>\n</div>\n", id="a line a third time"),
    pytest.param("hm hm hm", " hm hm so", "hm hm hm hm hm so", id="a text of one word"),
    pytest.param("Rome was Rome", "Rome was Rome and", "Rome was Rome and", id="from the start, ending as it began"),
    pytest.param("x\n}\n", "\n}\n", "x\n}\n}\n", id="a bracket twice"),
    pytest.param("banana", "na", "bananana", id="within a word"),
    pytest.param("It was really", " really good", "It was really really good", id="a longer word twice"),
    pytest.param("and it flows", " it flows on", "and it flows it flows on", id="words behind a blank"),
    pytest.param("It is it. The end.", " The end.", "It is it. The end. The end.", id="a sentence twice"),
    pytest.param(LONG, f" {LONG}", f"{LONG} {LONG}", id="all of a text twice"),
    pytest.param(" really", " really good", " really really good", id="a word twice, behind a first blank"),
    pytest.param(f" {LONG}", f" {LONG} And", f" {LONG} And", id="from the start, with its first blank"),
    pytest.param(f" {LONG}", " And so", f" {LONG} And so", id="exactly, behind a first blank"),
    pytest.param(
        "A wheel is a wheel,", " a wheel, a wheel...", "A wheel is a wheel, a wheel, a wheel...", id="words in a loop"
    ),
    pytest.param("| north", " | north | south |", "| north | north | south |", id="a cell of a table"),
    pytest.param("<tr><td>north</td>", "<td>north</td>", "<tr><td>north</td><td>north</td>", id="a cell in markup"),
    pytest.param('["north",', '"north"]', '["north","north"]', id="a member of a list"),
    pytest.param("south\nnorth,", "north,north", "south\nnorth,north,north", id="a value between commas"),
    pytest.param("- item one\n- i", "tem one\n", "- item one\n- item one\n", id="a line, cut within a word"),
    pytest.param("Yes. I see. Yes.", "Yes. No", "Yes. I see. Yes.Yes. No", id="words that were said, without a blank"),
    pytest.param(
        "A wheel. So? Wheel.", "Wheel. No", "A wheel. So? Wheel.Wheel. No", id="words that were said, in small"
    ),
    pytest.param("code A10", "A10B", "code A10A10B", id="a code twice"),
    pytest.param("the do", "do flew", "the dodo flew", id="a syllable twice, behind a word"),
    pytest.param("Say tiktik", "tiktik so", "Say tiktiktiktik so", id="a loop within a word"),
    pytest.param(
        f" {LONG}", " ten countries. So", f" {LONG} ten countries. So", id="words twice, behind a first blank"
    ),
    pytest.param("Say tik", "tiktik", "Say tiktiktik", id="a further time, without a blank"),
]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize(("said", "new", "whole"), WAYS)
def test_no_character_is_lost_or_doubled(said: str, new: str, whole: str, step: int) -> None:
    pieces = [new[at : at + step] for at in range(0, len(new), step)]
    assert joined(said, pieces) == (whole, False)


def wrong(texts: tuple[str, ...], server: str, step: int = 4) -> list[AtSeam]:
    """Return the seams of the texts that are not joined to the whole text."""
    return [
        each
        for text in texts
        for each in seams(text, SERVERS[server])
        if joined(each.said, [each.new[at : at + step] for at in range(0, len(each.new), step)]) != (each.whole, False)
    ]


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_no_word_of_an_exact_server_is_lost_wherever_it_is_cut(step: int) -> None:
    assert wrong(PROSE, "exact", step) == []
    # A word that says itself twice without a blank, cut in its middle, is taken for a repetition.
    assert {each.said[-3:] for each in wrong(REPETITIVE, "exact", step)} == {"ACA", "eef", "bon", "mur"}


@pytest.mark.parametrize("server", SERVERS)
def test_no_word_of_prose_is_lost_in_any_manner(server: str) -> None:
    for text in PROSE:
        for each in seams(text, SERVERS[server]):
            whole, is_anew = joined(each.said, [each.new])
            assert not is_anew
            assert len(whole) >= len(each.whole)
            assert whole.startswith(each.said)
            assert whole.endswith(text[len(each.said) :].lstrip())


def test_words_in_prose_survive_a_server_that_strips_blanks() -> None:
    assert wrong(PROSE, "without the first blanks") == []


def test_what_a_server_repeats_of_prose_is_dropped_if_it_can_be_told_from_chance() -> None:
    behind = [(text[:at], text[:at].rsplit(maxsplit=1)[-1]) for text in PROSE for at in range(9, len(text))]
    words = [(text, word) for text, word in behind if word.isalpha() and len(word) >= UNALIGNED]
    assert len(words) >= 40
    for text, word in words:
        assert joined(text, [f"{word}, and so on"]) == (f"{text}, and so on", False)
    for text, _ in behind:
        assert joined(text, [f"{text}, and so on"]) == (f"{text}, and so on", False)
    sentences = [each.said for each in wrong(PROSE, "the last sentence")]
    begun = [text for text in sentences if len(text) - max(text.rfind(mark) for mark in ".:\n。") > 3 * UNALIGNED]
    assert begun == []


WORDS = st.sampled_from(
    ["wheel", "A", "a", "is", "Train", "river", "north", "mirror", "that", "1", "two", "=", "print()"]
)
SPACES = st.sampled_from([" ", ", ", ". ", ".\n", "\n\n", " | ", "; "])
LOOPS = st.lists(st.tuples(WORDS, SPACES), min_size=1, max_size=4).flatmap(
    lambda loop: st.integers(1, 5).map(lambda times: "".join(word + space for word, space in loop) * times)
)


@given(st.lists(LOOPS, min_size=1, max_size=3).map("".join), st.data())
def test_a_loop_of_an_exact_server_stays_whole(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(text)))
    step = data.draw(st.integers(1, 20))
    new = text[len(text[:at].rstrip()) :]
    assert joined(text[:at], [new[place : place + step] for place in range(0, len(new), step)]) == (text, False)


def test_another_answer_from_its_start_is_told_from_a_continuation() -> None:
    other = LONG[:-10] + "nine countries."
    _, is_anew = joined(LONG, list(other))
    assert is_anew
    assert joined(LONG, list(LONG[: ANEW - 1] + "?"))[1] is False


def test_a_text_that_repeats_its_own_start_is_not_taken_for_another_answer() -> None:
    refrain = "Row, row, row your boat, gently down the stream. "
    assert joined(refrain + refrain + "Merrily. ", list(refrain + "Life")) == (
        refrain + refrain + "Merrily. " + refrain + "Life",
        False,
    )


def test_what_is_handed_back_has_no_white_space_at_its_end() -> None:
    assert split("A river \n") == ("A river", " \n")
    assert split("\n ") == ("", "\n ")


@given(st.text(alphabet="ab \n.", max_size=40), st.data())
def test_an_exact_continuation_of_short_words_stays_exact(text: str, data: st.DataObject) -> None:
    """No word has the letters that a repetition needs, apart from a text that is one word."""
    text = text.replace("a", "a ").replace("b", "1")
    at = data.draw(st.integers(0, len(text)))
    handed, _ = split(text[:at])
    cuts = sorted(data.draw(st.lists(st.integers(len(handed), len(text)), max_size=5)))
    places = [len(handed), *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(places) if start < end]
    whole, is_anew = joined(text[:at], pieces)
    assert (whole.rstrip(), is_anew) == (text.rstrip(), False)
    assert len(whole) >= at
