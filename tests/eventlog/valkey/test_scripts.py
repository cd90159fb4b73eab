"""The scripts, on a server by themselves. Each is sent twice: a writer that lost its connection does so."""

import socket
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from service.eventlog.valkey.keys import Keys
from service.eventlog.valkey.script import Script
from service.eventlog.valkey.scripts import (
    APPEND,
    CLAIM,
    CONFIRM,
    CREATE,
    END,
    FORGET,
    NOTE,
    RECORD,
    RELEASE,
    WATCH,
)
from service.events import new_answer_id
from tests.valkey import ValkeyServer
from tests.waiting import DEADLINE_SECONDS

KEYS = Keys("folyam")
YEAR_2020 = 1_577_836_800_000_000


class Client:
    """A plain connection. Text in, text out."""

    def __init__(self, server: ValkeyServer) -> None:
        self._socket = socket.create_connection((server.address.host, server.address.port), DEADLINE_SECONDS)
        self._reader = hiredis.Reader(encoding="utf-8")
        self.pushes: list[str] = []
        self("HELLO", "3")

    def __call__(self, *parts: object) -> Any:  # noqa: ANN401 (any type of RESP3)
        self._socket.sendall(hiredis.pack_command(tuple(str(part) for part in parts)))  # type: ignore[arg-type]
        while True:
            reply = self._read()
            if not isinstance(reply, hiredis.PushNotification):
                break
            if reply[0] == "ssubscribe":
                return None
            self.pushes.append(reply[2])
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _read(self) -> Any:  # noqa: ANN401 (any type of RESP3)
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        return reply

    def run(self, script: Script, keys: list[str], *values: object) -> list[Any]:
        """Run the script twice. The second result is the first one, and the second run changes nothing."""
        first = self("EVAL", script.text, len(keys), *keys, *values)
        dump = self.dump()
        assert self("EVAL", script.text, len(keys), *keys, *values) == first
        assert self.dump() == dump
        assert isinstance(first, list)
        return first

    def dump(self) -> dict[str, Any]:
        return {key: self.value(key) for key in self("KEYS", "*")}

    def value(self, key: str) -> Any:  # noqa: ANN401 (any type)
        match self("TYPE", key):
            case "stream":
                return self("XRANGE", key, "-", "+")
            case "hash":
                return self("HGETALL", key)
            case "zset":
                return self("ZRANGE", key, 0, -1, "WITHSCORES")
            case _:
                return self("GET", key)

    def close(self) -> None:
        self._socket.close()


class Answer:
    """The scripts on one answer."""

    def __init__(self, server: Client) -> None:
        self.server = server
        self.id = new_answer_id()
        self._claims = 0
        self.log, self.lease = KEYS.log(self.id), KEYS.lease(self.id)
        self.all = [self.log, self.lease, KEYS.watch(self.id), KEYS.channel(self.id)]

    def create(self, worker: str = "V", lines: str = "start\n") -> list[Any]:
        return self.server.run(CREATE, [self.log, self.lease], worker, lines)

    def append(self, before: int, seq: int, value: str = "x\n", *, field: str = "e", grew: int | str = "") -> list[Any]:
        return self.server.run(APPEND, self.all, before, seq, field, value, grew)

    def end(self, before: int, seq: int, keep: int = 60_000) -> list[Any]:
        return self.server.run(END, self.all, before, seq, "e", "done\n", "", keep)

    def claim(self, worker: str, owner: str, away: int = 0) -> list[Any]:
        return self._claim(worker, owner, away)

    def renew(self, worker: str, last_seq: int) -> list[Any]:
        return self._claim(worker, worker, 0, last_seq)

    def _claim(self, worker: str, owner: str, away: int, *last_seq: int) -> list[Any]:
        self._claims += 1
        keys = [self.log, self.lease, KEYS.channel(self.id)]
        return self.server.run(CLAIM, keys, worker, owner, away, f"claim{self._claims}", *last_seq)

    def claimed(self, worker: str, owner: str, away: int = 0) -> int:
        status, number, *_ = self.claim(worker, owner, away)
        assert status == "ok"
        return int(number)

    def confirm(self, seq: int, worker: str) -> list[Any]:
        return self.server.run(CONFIRM, [self.log, self.lease], seq, worker)

    def release(self, worker: str, *, forget: bool = False) -> list[Any]:
        return self.server("EVAL", RELEASE.text, 2, self.lease, KEYS.channel(self.id), worker, int(forget))  # type: ignore[no-any-return]

    def note(self, field: str, value: object, owner: str = "") -> list[Any]:
        return self.server("EVAL", NOTE.text, 1, self.lease, field, value, owner)  # type: ignore[no-any-return]

    def entries(self) -> list[tuple[str, list[str]]]:
        return [(name, fields) for name, fields in self.server("XRANGE", self.log, "-", "+")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        client = Client(server)
        yield client
        client.close()


@pytest.fixture
def answer(server: Client) -> Answer:
    server("FLUSHALL")
    server("CONFIG", "SET", "maxmemory", 0)
    server.pushes.clear()
    return Answer(server)


def test_a_log_begins_with_its_start(answer: Answer) -> None:
    assert answer.create() == ["ok"]
    assert answer.entries() == [("1-0", ["e", "start\n"])]
    assert answer.create("W") == ["there"]
    answer.append(1, 2)
    assert answer.create() == ["there"]


def test_an_append_follows_what_its_writer_wrote_last(answer: Answer) -> None:
    answer.create()
    assert answer.append(1, 3) == ["ok", None]
    assert answer.append(3, 4) == ["ok", None]
    assert [name for name, _ in answer.entries()] == ["1-0", "3-0", "4-0"]
    assert answer.server("HGET", answer.lease, "size") == str(len("start\nx\nx\n"))


def test_a_gap_is_refused(answer: Answer) -> None:
    answer.create()
    assert answer.append(2, 3) == ["other", "1-0"]
    assert answer.append(7, 8) == ["other", "1-0"]
    assert len(answer.entries()) == 1


def test_an_append_of_a_writer_that_others_overtook_is_refused(answer: Answer) -> None:
    answer.create()
    answer.append(1, 2)
    number = answer.claimed("W", "V", 2000)
    assert answer.append(2, 3) == ["other", f"{number}-0"]
    assert answer.append(number, number + 1) == ["ok", None]


def test_a_log_that_was_deleted_is_not_created_by_an_append(answer: Answer) -> None:
    answer.create()
    answer.server("UNLINK", answer.log)
    assert answer.append(1, 2) == ["gone"]
    assert answer.end(1, 2) == ["gone"]
    assert answer.claim("W", "V") == ["gone"]
    assert answer.confirm(1, "V") == ["gone"]
    assert answer.entries() == []


def test_an_append_is_pushed_once_with_the_entry_before(answer: Answer) -> None:
    answer.create()
    answer.server("SSUBSCRIBE", KEYS.channel(answer.id))
    answer.append(1, 3, "a\nb\n")
    number = answer.claimed("W", "V")
    answer.end(number, number + 1)
    assert answer.server.pushes == [
        "1 3 e a\nb\n",
        f"3 {number} c W",
        f"{number} {number + 1} e done\n",
    ]


def test_an_end_leaves_a_log_that_expires_and_nothing_else(answer: Answer) -> None:
    answer.create()
    answer.server("SADD", KEYS.watch(answer.id), "W")
    assert answer.end(1, 2) == ["ok", None]
    assert 59_000 < answer.server("PTTL", answer.log) <= 60_000
    assert answer.server("KEYS", "*") == [answer.log]
    assert answer.claim("W", "V") == ["ended"]
    assert answer.release("V") == ["other"]
    assert answer.note("stop", "user") == ["other"]
    assert answer.confirm(2, "V") == ["ok", None]


def test_a_stop_is_told_by_each_append(answer: Answer) -> None:
    answer.create()
    assert answer.note("stop", "user") == ["ok", "V"]
    assert answer.append(1, 2) == ["ok", "user"]
    assert answer.append(2, 3) == ["ok", "user"]
    assert answer.confirm(3, "V") == ["ok", "user"]


def test_the_time_is_a_claims_number(answer: Answer) -> None:
    answer.create()
    first = answer.claimed("W", "V")
    assert YEAR_2020 < first < 1 << 53
    answer.append(first, first + 1_000_000_000)
    assert answer.claimed("X", "W") == first + 1_000_000_001, "never one that is there"
    assert [fields for _, fields in answer.entries()] == [["e", "start\n"], ["c", "W"], ["e", "x\n"], ["c", "X"]]


def test_of_two_claimers_one_wins(answer: Answer) -> None:
    answer.create()
    answer.claimed("W", "V")
    assert answer.claim("X", "V") == ["other", "W"]
    assert answer.claim("X", "-") == ["other", "W"]
    answer.release("V")
    assert answer.claim("X", "V") == ["other", "W"], "V no longer has it"
    assert answer.release("W") == ["ok"]
    assert answer.claimed("X", "V")


def test_a_renewal_is_refused_until_the_log_ends_with_what_the_worker_wrote_last(answer: Answer) -> None:
    answer.create()
    number = int(answer.renew("V", 1)[1])
    assert answer.renew("V", number + 3) == ["behind", f"{number}-0"], "the claim at the end is an older one"
    answer.append(number, number + 3)
    renewed = answer.renew("V", number + 3)
    assert renewed[:1] == ["ok"]
    assert renewed[2] == str(number + 3)
    assert int(renewed[1]) > number + 3
    answer.release("V")
    assert answer.renew("V", int(renewed[1])) == ["other", "-"]


def test_a_worker_that_claims_again_gets_another_number(answer: Answer) -> None:
    answer.create()
    number = answer.claimed("V", "V")
    assert answer.claimed("V", "V") > number


def test_the_texts_given_anew_are_counted_over_all_claims(answer: Answer) -> None:
    answer.create()
    for worker, owner, count in (("W", "V", 0), ("X", "W", 1), ("Y", "X", 2)):
        _, number, *rest = answer.claim(worker, owner)
        assert int(rest[-1]) == count
        answer.append(int(number), int(number) + 2, "restart\ntext\n", field="a")


def test_nothing_is_left_of_a_log_that_was_deleted_by_hand(answer: Answer) -> None:
    answer.create()
    answer.server("DEL", answer.log)
    assert answer.claim("W", "V") == ["gone"]
    assert answer.server("KEYS", "*") == []


def test_a_worker_claims_anew_from_itself(answer: Answer) -> None:
    answer.create()
    number = answer.claimed("V", "V")
    assert answer.confirm(number, "V") == ["ok", None]
    assert "claims" not in answer.server("HGETALL", answer.lease), "it is not a take-over"
    answer.append(number, number + 2, "restart\ntext\n", field="a")
    assert answer.server("HGET", answer.lease, "anew") == str(number + 2)
    assert answer.server("HGET", answer.lease, "size") == str(len("start\n")), "nothing new was said"


def test_a_lease_that_another_has_is_not_confirmed(answer: Answer) -> None:
    answer.create()
    assert answer.confirm(1, "W") == ["lost"]
    assert answer.confirm(2, "V") == ["other", "1-0"]


def test_claims_are_counted_within_a_minute_and_since_growth(answer: Answer) -> None:
    answer.create()

    def counted() -> list[int]:
        answer.release("V")
        return answer.claim("V", "-")[3:5]

    assert counted() == [1, 1]
    assert counted() == [2, 2]
    answer.note("grew", 2, "V")
    assert counted() == [3, 1]
    answer.server("HINCRBY", answer.lease, "claimed_at", -61_000_000)
    assert counted() == [1, 1]
    answer.release("V", forget=True)
    assert counted() == [1, 1]


def test_a_follower_behind_the_end_leaves_no_set_behind(answer: Answer) -> None:
    watch = KEYS.watch(answer.id)

    def follow() -> object:
        return answer.server("EVAL", WATCH.text, 2, answer.lease, watch, "W")

    answer.create()
    assert follow() == follow() == ["ok"]
    assert list(answer.server("SMEMBERS", watch)) == ["W"]
    answer.server.run(END, answer.all, 1, 2, "e", "done\n", "", 60_000)
    assert follow() == ["ended"]
    assert not answer.server("EXISTS", watch)


def test_growth_is_noted_by_the_append_that_is_in_the_log(answer: Answer) -> None:
    answer.create()
    number = answer.claimed("W", "V")
    assert answer.append(number + 1, number + 2, grew=1)[0] == "other"
    assert answer.server("HGET", answer.lease, "grew") == "0"
    assert answer.append(number, number + 1, grew=1)[0] == "ok"
    assert answer.server("HGET", answer.lease, "grew") == "1"


def test_a_note_of_a_former_owner_is_refused(answer: Answer) -> None:
    answer.create()
    answer.claimed("W", "V")
    assert answer.note("grew", 1, "V") == ["other"]
    assert answer.note("grew", 1, "W") == ["ok", "W"]


def test_the_time_without_a_follower_does_not_pass_without_a_producer(answer: Answer) -> None:
    answer.create()
    assert answer.claim("W", "V")[5] == ""
    answer.note("unwatched", 30, "W")
    assert 29_000 < int(answer.claim("X", "W")[5]) <= 30_000
    assert 31_000 < int(answer.claim("Y", "X", 2000)[5]) <= 32_000
    answer.release("Y")
    answer.server("HINCRBY", answer.lease, "released_at", -5_000_000)
    status, *_, left, _, _, _ = answer.claim("Z", "-")
    assert status == "ok"
    assert 34_000 < int(left) <= 35_000
    answer.note("unwatched", "", "Z")
    assert answer.claim("V", "Z")[5] == ""


def test_an_answer_can_end_when_the_memory_is_full(answer: Answer) -> None:
    answer.create()
    server = answer.server
    other = Answer(server)
    other.create()
    server("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(hiredis.ReplyError, match=r"^OOM"):
        answer.append(1, 2)
    with pytest.raises(hiredis.ReplyError, match=r"^OOM"):
        Answer(server).create()
    assert answer.end(1, 2) == ["ok", None]
    number = other.claimed("W", "V")
    assert other.release("W") == ["ok"]
    number = other.claimed("X", "-")
    assert other.end(number, number + 1) == ["ok", None]


def test_the_bytes_of_ended_answers_are_summed(answer: Answer) -> None:
    server = answer.server
    keys = [KEYS.ended, KEYS.ended_bytes, KEYS.ended_total]
    server.run(RECORD, keys, "a", 100)
    server.run(RECORD, keys, "b", 20)
    assert server("GET", KEYS.ended_total) == "120"
    assert server("ZRANGE", KEYS.ended, 0, -1) == ["a", "b"]
    server.run(FORGET, keys, "a")
    assert server("GET", KEYS.ended_total) == "20"
    assert server("ZRANGE", KEYS.ended, 0, -1) == ["b"]
