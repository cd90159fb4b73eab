"""Find what a continuation repeats of the text that it goes on from. Pure: no I/O, no clock.

A model that is asked to go on from a text may go on exactly, repeat the last words, begin again from the start, or have
lost the white space at the seam: chat templates trim the given text, and some servers trim what they send. The text
that is handed back has no white space at its end, so that every model has to write it again and the seam can be
aligned. The first pieces of a continuation are held back until it is clear what they repeat.

An exact continuation can say words twice by itself (`very very`, `</td></td>`, `a wheel, a wheel`). A reader can notice
words that are kept by mistake, and not those that are dropped by mistake. So a repetition is dropped only if it shows
that the model began a turn of its own:

- A model that goes on behind a word writes a blank first, and a new turn begins without one. So what comes behind a
  blank is kept, and a word that follows a word without a blank is a repetition (`the riv|river`).
- Behind a mark a server may have lost the blank. Words that were said before are the model's own way then, and so are
  words that come a further time behind the repetition. In markup, code and data no blank is expected.

What a server did at other seams is not asked: it would decide three of 1,353 seams of the tests' repetitive texts, and
the same bytes, read again by another worker, have to be joined in the same way.
"""

import re

TAIL = 400
"""Length of the known text's end in which a repetition may begin, unless it begins at the text's start."""
LEAST_LETTERS = 3
"""Minimum letters of a repetition: `the riv|river`, and not `ha|ha`."""
UNALIGNED = 6
"""Minimum length of a repetition that does not begin with a letter that has a case. Most scripts without case have no
spaces, and words of one to three characters that are often said twice."""
ANEW = 32
"""Minimum number of characters from the known text's start behind which a different text is a new answer, and the same
text is no chance."""
SAID = 2000
"""Length of the text before a repetition in which its words count as said before."""
PHRASE_BLANKS = 3
"""Minimum number of blanks within a repetition that ends in another mark than _STOPS: `north,north,` is data."""
_STOPS = ".!?"
"""The ASCII marks behind which a lost blank is a sign of prose, and not of markup, code or data."""


class Overlap:
    """Decides how the pieces of a continuation join the text `said`.

    `is_anew` is set if the continuation is another answer from its start: it began like `said`, and then differs.
    """

    def __init__(self, said: str) -> None:
        self.is_anew = False
        self._text, self._blanks = split(said)
        self._first = len(self._text) - len(self._text.lstrip())
        self._held = ""

    def add(self, piece: str, *, last: bool = False) -> str | None:
        """Return the text behind `said` that the pieces so far hold; None while that is not clear.

        With `last` no piece follows, and the result is a text. Once a text is returned, the overlap is found, and the
        next pieces are what they are.
        """
        self._held += piece
        body = self._held.lstrip()
        if not body:
            return self._behind(self._held, last=last) if last or len(self._held) > TAIL else None
        # A server that begins its answers with a blank may begin again with one.
        may_begin_again = self._first > 0 and len(self._text) >= self._first + ANEW
        if self._held[0].isspace() and not may_begin_again:
            return self._behind(self._held, last=last)
        for start in self._starts(body):
            known = self._text[start:]
            if not body.startswith(known):
                if not last:
                    return None
            elif not _is_periodic(known):  # else once more is the text's own way
                return self._decided(start, body[len(known) :], last=last)
        self.is_anew = self._is_anew(body)
        return self._held if self.is_anew else self._behind(self._held, last=last)

    def _starts(self, body: str) -> list[int]:
        """Return where in the known text a repetition may begin that goes up to its end, the longest first."""
        text = self._text
        places = [self._first]
        if not self._held[0].isspace():
            places += range(max(self._first + 1, len(text) - TAIL), len(text))
        starts = []
        for start in places:
            if text[start : start + 1] != body[0]:
                continue
            length = len(text) - start
            matches = body.startswith(text[start:]) if len(body) >= length else text.startswith(body, start)
            if matches and self._may_repeat(start):
                starts.append(start)
        return starts

    def _may_repeat(self, start: int) -> bool:
        """Return whether the known text from there on is enough to be told from chance."""
        known = self._text[start:]
        if _letters(known) < LEAST_LETTERS:
            return False
        if not _has_case(known[0]):
            return len(known) >= UNALIGNED
        return start == 0 or not self._text[start - 1].isalnum()

    def _decided(self, start: int, rest: str, *, last: bool) -> str | None:
        """Return the new text of a continuation that begins with what is known from `start` on; None if it is open."""
        is_repetition = self._is_repetition(start, rest)
        if is_repetition is None and not last:
            return None
        return self._behind(self._held if is_repetition is False else rest, last=last)

    def _is_repetition(self, start: int, rest: str) -> bool | None:
        """Return whether what is known from `start` on is repeated by the server, and is not said again by the model.

        Return None if it is repeated unless the next characters say it a further time.
        """
        known = self._text[start:]
        if start == self._first and len(known) >= ANEW:
            return True
        if start != self._first and not self._is_new_turn(start):
            return False
        core, rest = _core(known), rest.lstrip()
        if rest.startswith(core):
            return False
        return None if core.startswith(rest) else True

    def _is_new_turn(self, start: int) -> bool:
        """Return whether a model that goes on would not have said again what is known from `start` on."""
        known, before = self._text[start:], self._text[:start]
        end = known[-1]
        if end.isalnum() and _has_case(known[0]):
            return True  # There would be a blank before it.
        begins_as_prose = known[0].isalnum() or before[-1].isspace()
        ends_as_prose = end.isalnum() or end in _STOPS or not end.isascii() or known.count(" ") >= PHRASE_BLANKS
        return begins_as_prose and ends_as_prose and _bare(known) not in _bare(before[-SAID:])

    def _is_anew(self, body: str) -> bool:
        text = self._text[self._first :]
        if len(text) <= ANEW or not body.startswith(text[:ANEW]):
            return False
        return text.find(text[:ANEW], 1) < 0  # A text that repeats its own start may do so once more.

    def _behind(self, rest: str, *, last: bool) -> str | None:
        """Return the rest without the known white space at its start; None while only white space has come."""
        if rest.startswith(self._blanks):
            return rest[len(self._blanks) :] or ("" if last else None)
        stripped = rest.lstrip()
        return stripped if stripped or last else None


def _is_periodic(text: str) -> bool:
    """Return whether the text is one piece at least twice, perhaps with white space between; false for a long text."""
    half = len(text) // 2 + 1
    return len(text) <= TAIL and any(text.startswith(text[period:]) for period in range(1, half + 1))


def _letters(text: str) -> int:
    """Return the number of letters, of a long text in its first part."""
    return sum(map(str.isalpha, text[:TAIL]))


def _has_case(letter: str) -> bool:
    return letter.lower() != letter.upper()


def _core(text: str) -> str:
    """Return the text up to its last letter or digit: a further time it may end in another mark."""
    end = len(text)
    while end and not text[end - 1].isalnum():
        end -= 1
    return text[:end]


def _bare(text: str) -> str:
    """Return the words of the text without case and marks."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def split(said: str) -> tuple[str, str]:
    """Return the text that is handed back, and the white space at its end, which is not."""
    text = said.rstrip()
    return text, said[len(text) :]
