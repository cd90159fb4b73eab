"""What a continuation repeats of the text that it goes on from."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.upstream.overlap import ANEW, Overlap, split

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
    pytest.param("A river", " river flows", "A river flows", id="the last word"),
    pytest.param("A river", " rivers", "A river rivers", id="another word that begins like the last one"),
    pytest.param("the riv", "river flows", "the river flows", id="the last word, which was half known"),
    pytest.param("and it flows", "it flows on", "and it flows on", id="the last words"),
    pytest.param("and it flows", " it flows on", "and it flows on", id="the last words with their blank"),
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
]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize(("said", "new", "whole"), WAYS)
def test_no_character_is_lost_or_doubled(said: str, new: str, whole: str, step: int) -> None:
    pieces = [new[at : at + step] for at in range(0, len(new), step)]
    assert joined(said, pieces) == (whole, False)


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
