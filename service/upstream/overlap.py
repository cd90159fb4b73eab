"""Find what a continuation repeats of the text that it goes on from. Pure: no I/O, no clock.

A model that is asked to go on from a text may go on exactly, repeat the last words, begin again from the start, or have
lost the white space at the seam: chat templates trim the given text, and some servers trim what they send. The text
that is handed back has no white space at its end, so that every model has to write it again and the seam can be
aligned. The first pieces of a continuation are held back until it is clear what they repeat.

An exact continuation can say a word twice by itself (`very very`, `</td></td>`). So a repetition counts only if it
begins at the start of a word and has several letters, and not where the known text repeats itself in the same way.
"""

TAIL = 400
"""Length of the known text's end in which a repetition may begin, unless it begins at the text's start."""
JOINED_LETTERS = 3
"""Minimum letters of a repetition that follows the known text without white space: `the riv|river`, and not `ha|ha`."""
SPACED_LETTERS = 5
"""Minimum letters of a repetition behind white space, which must be whole words: `the river| river`, not `in| into`."""
UNALIGNED = 6
"""Minimum length of a repetition that does not begin at the start of a word, or is in a script without letter case:
most such scripts have no spaces, and words of one to three characters that are often said twice."""
ANEW = 32
"""Minimum number of characters from the known text's start behind which a different text is a new answer."""


class Overlap:
    """Decides how the pieces of a continuation join the text `said`.

    `is_anew` is set if the continuation is another answer from its start: it began like `said`, and then differs.
    """

    def __init__(self, said: str) -> None:
        self.is_anew = False
        self._text, self._blanks = split(said)
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
        blanks = self._held[: len(self._held) - len(body)]
        for start in self._starts(body):
            known = self._text[start:]
            if not body.startswith(known):
                if not last:
                    return None
            elif self._repeats(start, body, blanks):
                if not last and blanks and len(body) == len(known):
                    return None  # The next character tells whether the last word is whole.
                return self._behind(body[len(known) :], last=last)
        self.is_anew = self._is_anew(body)
        return self._held if self.is_anew else self._behind(self._held, last=last)

    def _starts(self, body: str) -> list[int]:
        """Return where in the known text a repetition may begin that goes up to its end, the longest first."""
        text = self._text
        first = len(text) - len(text.lstrip())
        places = [first, *range(max(first + 1, len(text) - TAIL), len(text))]
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
        if _letters(known) < JOINED_LETTERS:
            return False
        is_aligned = not (start and self._text[start - 1].isalnum() and known[0].isalnum())
        return (is_aligned and known[0].lower() != known[0].upper()) or len(known) >= UNALIGNED

    def _repeats(self, start: int, body: str, blanks: str) -> bool:
        known = self._text[start:]
        before = self._text[:start]
        if before.rstrip().endswith(known) and (blanks or before.endswith(known)):
            return False  # The text says it twice already: once more is its own way.
        if _is_periodic(known):
            return False  # So it does within itself.
        if not blanks:
            return True
        is_whole = not (len(body) > len(known) and known[-1].isalnum() and body[len(known)].isalnum())
        return is_whole and _letters(known) >= SPACED_LETTERS

    def _is_anew(self, body: str) -> bool:
        text = self._text.lstrip()
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


def split(said: str) -> tuple[str, str]:
    """Return the text that is handed back, and the white space at its end, which is not."""
    text = said.rstrip()
    return text, said[len(text) :]
