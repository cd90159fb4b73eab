"""A corpus of seams: texts, cut behind every character, and servers that continue them in their manners."""
# ruff: noqa: RUF001 (the commas of Chinese)

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PROSE = (
    (
        "The river rises in the Black Forest, and it flows through ten countries. It ends in a wide delta, where many "
        "birds live. People have built cities on its banks since Roman times."
    ),
    (
        "Here are three things that a garden needs:\n\n1. **Water**: once a day, in the evening.\n2. **Light**: six "
        "hours of it.\n3. **Soil**: loose and deep.\n\nWith these, almost anything grows."
    ),
    "A árvíztűrő tükörfúrógép egy gép, amely tükröt fúr. 🌊 Nem fél a víztől, és nem fél a tűztől sem.",
    "我们在河边散步，一边走一边聊天。河水很清，鱼很多。孩子们在岸边玩水，老人们在树下下棋。",
    "Это река. Она течёт через город, и по ней плывут лодки. Зимой она замерзает.",
)
"""Texts as most answers are."""
REPETITIVE = (
    "A wheel is a wheel, a wheel, a wheel...",
    "A mirror is a mirror that is a mirror that is a mirror that is a mirror.",
    "The train is fast. The train is fast. The train is long. The train is fast.",
    "It was really, really good, and very very late; they knew that that would never, never do.",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream. Row.",
    "On and on it went, over and over again, again and again, day after day, day after day, and on and on.",
    "Yes. Yes. Yes, I think so. I think so. No, I do not think so.",
    "| north | north | south |\n| --- | --- | --- |\n| north | north | north |\n| south | south | north |",
    "<table><tr><td>north</td><td>north</td></tr><tr><td>south</td><td>south</td></tr></table>",
    '["alpha", "alpha", "alpha", "beta", "beta"], ["alpha","alpha","beta","beta"]',
    "def one():\n    print('hello')\n    print('hello')\n\n\ndef two():\n    print('hello')\n    return\n    return\n",
    "north,north,north\nsouth,south,north\nsouth,south,north\n",
    "GATTACAGATTACA is GATTACA twice; deadbeefdeadbeef is a number; hahaha, bonbon, murmur, Baden-Baden.",
    "0, 0, 0, 1, 0, 0.0, 0.0, 1.5, 1.5, one, one, two",
    "- item one\n- item one\n- item two\n- item two\n- item two\n",
    "走走看看，看看走走。河流很长。河流很长。一步一步地走，一步一步地走。",
    "That is what it is. What it is is what it is, and what is not is not.",
    "The cat sat on the mat. The cat sat on the mat and the cat sat on the mat.\n\nThe cat sat on the mat.",
)
"""Texts that say things twice by themselves."""


@dataclass(frozen=True)
class AtSeam:
    """What is known of a text, and what the server sends behind it."""

    said: str
    new: str
    whole: str


Server = Callable[[str, str], str]
"""Returns what is sent, of the text that is handed back and its exact rest."""


def _last_word(given: str, rest: str) -> str:
    return given.rsplit(maxsplit=1)[-1] + rest


def _last_word_behind_a_blank(given: str, rest: str) -> str:
    return f" {_last_word(given, rest)}"


def _last_sentence(given: str, rest: str) -> str:
    end = max(given.rfind(mark, 0, len(given) - 1) for mark in (". ", "! ", "? ", "。", "\n"))
    return given[end + 1 :].lstrip() + rest


SERVERS: dict[str, Server] = {
    "exact": lambda _, rest: rest,
    "without the first blanks": lambda _, rest: rest.lstrip(),
    "the last word": _last_word,
    "the last word behind a blank": _last_word_behind_a_blank,
    "the last sentence": _last_sentence,
    "everything": lambda given, rest: given + rest,
}


def seams(text: str, server: Server) -> Iterator[AtSeam]:
    """Yield the seams of a text that is cut behind each of its characters but the last."""
    for at in range(1, len(text)):
        said = text[:at]
        given = said.rstrip()
        if not given:
            continue
        rest = text[len(given) :]
        new = server(given, rest)
        # Blanks that were not known, and that the server does not send, are nowhere.
        yield AtSeam(said, new, said + new if new == rest.lstrip() else text)
