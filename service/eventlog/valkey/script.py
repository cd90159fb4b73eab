"""A Lua script, which the server knows by its hash.

It is not a function (`FUNCTION LOAD`): during a roll-out, two versions of the service would share a function's name. A
hash belongs to one text.
"""

import hashlib


class Script:
    """A Lua script of the server's (`EVALSHA`)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
