"""Names: what a client calls an answer, and how a request is known to be the same as an earlier one.

A name is a hash of its owner, its kind and the client's own words: an `Idempotency-Key`, a chat's id, the digest of a
body. It stands for the ids of answers. The log keeps it (`service.eventlog.base`), and keeps nothing of the words.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

NAME_LENGTH = 64
"""Characters of a name, all of them hexadecimal digits."""
LARGE_BYTES = 1 << 18
"""Length from which bytes are hashed in a thread: a millisecond."""

How = Literal["only", "newest", "further"]
"""What happens if the name stands for an answer already.

`only`: the new answer is not begun. `newest`: the name moves to it, and back if it is erased. `further`: the name
stands for both.
"""


@dataclass(frozen=True, slots=True)
class Naming:
    """A name that a new answer is to have."""

    name: str
    digest: str
    """The digest of the normalised request."""
    how: How


@dataclass(frozen=True, slots=True)
class Named:
    """An answer that a name stands for."""

    answer: str
    digest: str
    """The digest of the normalised request."""
    delivered: bool = False
    """Whether a response with it was written to its end."""


@dataclass(frozen=True, slots=True)
class Same:
    """By what a request may be the same as an earlier one."""

    digest: str
    """The digest of the normalised request: see `digest_of`."""
    key: str | None = None
    """The client's `Idempotency-Key`."""
    retry: bool | None = None
    """Whether the client says that this repeats a request of its own. None for a client that never says so. Without
    effect beside a key."""
    chat: str | None = None
    """The client's id of the chat. Its name moves to the new answer."""


def name_of(owner: str, kind: Literal["key", "body", "chat"], words: str) -> str:
    """Return the name. `owner` is the digest of the caller's API key, or empty without keys."""
    return hashlib.sha256(f"{owner}\0{kind}\0{words}".encode("utf-8", "surrogatepass")).hexdigest()


def namings(same: Same, owner: str) -> tuple[Naming, ...]:
    """Return the names of a new answer to the request."""
    names: list[Naming] = []
    if same.key is not None:
        names.append(Naming(name_of(owner, "key", same.key), same.digest, "only"))
    elif same.retry is not None:
        names.append(Naming(name_of(owner, "body", same.digest), same.digest, "further"))
    if same.chat is not None:
        names.append(Naming(name_of(owner, "chat", same.chat), same.digest, "newest"))
    return tuple(names)


async def digest_of(*parts: object) -> str:
    """Return the digest of what makes two requests the same: `service.request.Request.asked`, say.

    Parts are anything that msgspec encodes. The order of an object's fields makes no difference, except in raw JSON.
    """
    data = msgspec.json.encode(parts, order="deterministic")
    if len(data) < LARGE_BYTES:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
