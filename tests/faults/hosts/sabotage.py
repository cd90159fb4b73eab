"""Deliberate defects of the log on Valkey, which the harness must detect. See `tests.faults.sabotage`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from service.eventlog.valkey import reader
from service.eventlog.valkey.entries import Entry, decode_reply
from service.eventlog.valkey.lease import ValkeyLease
from service.eventlog.valkey.script import Script
from service.eventlog.valkey.scripts import APPEND, CLAIM, END
from service.eventlog.valkey.workers import Workers

COMPARISON = """if last[1] ~= ARGV[1] .. '-0' then
  if last[1] ~= ARGV[2] .. '-0' then return {'other', last[1]} end
elseif not"""
NEW_NUMBER = "math.max(now, number + 1)"


@dataclass(frozen=True, slots=True)
class _AnyPlace(Entry):
    def has(self, place: int) -> bool:
        del place
        return True


def blind_readers() -> None:
    """Readers go on behind their place without a look whether it is in the log."""

    def decode(reply: Iterable[Any]) -> list[Entry]:
        return [
            _AnyPlace(each.seq, each.kind, each.value, each.first, each.events, each.unknown_seq)
            for each in decode_reply(reply)
        ]

    _replace(reader, "decode_reply", decode)


def no_comparison() -> None:
    """An append does not compare the log's last entry with the one that its writer wrote last."""
    for script in (APPEND, END):
        _change(script, COMPARISON, "if not")


def old_numbers() -> None:
    """A claim takes the next number, which another history may have used."""
    _change(CLAIM, NEW_NUMBER, "number + 1")


def nobody_dies() -> None:
    """Answers of dead hosts are not taken over."""
    _replace(Workers, "look", lambda *_: set())


def deaf_to_leaving_hosts() -> None:
    """An answer without a follower on any host goes on without a limit."""
    _replace(ValkeyLease, "watched", lambda _: True)


def another_version() -> None:
    """No defect: the scripts of another version, which have other hashes."""
    for script in (APPEND, END, CLAIM):
        _change(script, "#!lua", "#!lua", "-- another version\n")


def _change(script: Script, old: str, new: str, more: str = "") -> None:
    """Change the text of the script, an object that others have, too."""
    assert old in script.text
    changed = Script(script.text.replace(old, new) + more)
    script.text, script.hash = changed.text, changed.hash


def _replace(owner: object, name: str, by: Callable[..., Any]) -> None:
    setattr(owner, name, by)


SABOTAGES = {
    each.__name__: each
    for each in (blind_readers, no_comparison, old_numbers, nobody_dies, deaf_to_leaving_hosts, another_version)
}
