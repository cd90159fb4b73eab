"""The clients' API keys: who may ask, and who may access an answer.

Without configured keys everybody may ask, and an answer's unguessable id is the capability to access it. With keys an
answer belongs to the key that began it. Its log holds an HMAC (RFC 2104) of the answer's id under that key. Any worker
can check the owner at any time. The mark reveals neither the key nor which answers share one.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

from service.errors import Unauthorized

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)


class Caller:
    """The sender of a request: the holder of a key, or anybody."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def client(self, address: str) -> str:
        """Return the name under which this caller's running answers are counted: the key's digest, or the address."""
        return address if self._key is None else hashlib.sha256(self._key).hexdigest()

    def mark(self, answer_id: str) -> str:
        """Return the owner's mark for the log of an answer that this caller begins; empty without keys."""
        return "" if self._key is None else hmac.new(self._key, answer_id.encode(), hashlib.sha256).hexdigest()

    @property
    def anybody(self) -> bool:
        """Whether no keys are configured, so that an answer's id alone gives access to it."""
        return self._key is None

    def owns(self, answer_id: str, mark: str) -> bool:
        """Return whether the answer belongs to this caller, by the mark in its log."""
        return self.anybody or hmac.compare_digest(self.mark(answer_id), mark)


ANYBODY = Caller()


class Keys:
    """The accepted keys. If there are none, no key is required."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode("ascii")).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def caller(self, authorization: str) -> Caller:
        """Return the caller of a request with this Authorization header.

        Raises:
            Unauthorized: a key is required, and the header holds none of the accepted ones.
        """
        if not self._digests:
            return ANYBODY
        match = _BEARER.fullmatch(authorization)
        given = match[1].encode("utf-8", "surrogateescape") if match else b""
        # Compare with every key, each in constant time, so that the duration reveals nothing about them.
        digest = hashlib.sha256(given).digest()
        found = [hmac.compare_digest(digest, each) for each in self._digests]
        if not any(found):
            raise Unauthorized
        return Caller(given)
