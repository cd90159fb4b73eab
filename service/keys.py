"""The clients' API keys: who may ask, and whose an answer is.

Without keys everybody may ask, and whoever knows an answer's id, which nobody can guess, may have it. With keys an
answer belongs to the key that began it. Its log holds the answer's id authenticated with that key (RFC 2104): any
worker can tell at any time whose it is, and nobody can tell the key from it, or two answers of one key.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

from service.errors import Unauthorized

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)


class Caller:
    """Whoever sent a request: a key's holder, or anybody."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def client(self, address: str) -> str:
        """Return what this caller's running answers are counted under: the key, as its digest, or else the address."""
        return address if self._key is None else hashlib.sha256(self._key).hexdigest()

    def mark(self, answer_id: str) -> str:
        """Return what to write into the log of an answer that this caller begins; empty without keys."""
        return "" if self._key is None else hmac.new(self._key, answer_id.encode(), hashlib.sha256).hexdigest()

    @property
    def anybody(self) -> bool:
        """Whether there are no keys, so that every answer's id is the capability to have it."""
        return self._key is None

    def owns(self, answer_id: str, mark: str) -> bool:
        """Tell whether the answer is this caller's, by the mark in its log."""
        return self.anybody or hmac.compare_digest(self.mark(answer_id), mark)


ANYBODY = Caller()


class Keys:
    """The keys that are accepted; none means that none is asked for."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode("ascii")).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def caller(self, authorization: str) -> Caller:
        """Return who sent a request with this Authorization header.

        Raises:
            Unauthorized: keys are asked for, and it holds none of them.
        """
        if not self._digests:
            return ANYBODY
        match = _BEARER.fullmatch(authorization)
        given = match[1].encode("utf-8", "surrogateescape") if match else b""
        # Every key is compared, each in constant time: how long it takes tells nothing about any of them.
        digest = hashlib.sha256(given).digest()
        found = [hmac.compare_digest(digest, each) for each in self._digests]
        if not any(found):
            raise Unauthorized
        return Caller(given)
