import pytest

from service.errors import Unauthorized
from service.events import new_answer_id
from service.keys import ANYBODY, Keys

ONE, TWO = "one-key-of-somebodys", "another-key-of-anothers"


@pytest.fixture
def keys() -> Keys:
    return Keys([ONE, TWO])


@pytest.mark.parametrize("authorization", [f"Bearer {ONE}", f"bearer {TWO}", f"BEARER  {ONE} "])
def test_each_key_is_accepted_as_a_bearer(keys: Keys, authorization: str) -> None:
    assert not keys.caller(authorization).anybody


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", ONE, f"Basic {ONE}", f"Bearer {ONE}x", f"Bearer {ONE[:-1]}", f"Bearer {ONE} {TWO}",
     f"Bearer {ONE.upper()}", "Bearer \u00e9", "Bearer \udcff", f"Bearer\t{ONE}", f"Bearer {ONE}, Bearer {TWO}"],
)  # fmt: skip
def test_nothing_else_is(keys: Keys, authorization: str) -> None:
    with pytest.raises(Unauthorized):
        keys.caller(authorization)


def test_without_keys_every_caller_may_access_every_answer() -> None:
    caller = Keys([]).caller(f"Bearer {ONE}")
    assert caller is ANYBODY
    assert caller.mark("0" * 32) == ""
    assert caller.owns("0" * 32, "")
    assert caller.owns("0" * 32, "whosever")
    assert caller.client("192.0.2.1") == "192.0.2.1"


def test_an_answer_is_its_keys_alone(keys: Keys) -> None:
    answer, other = new_answer_id(), new_answer_id()
    mine, yours = keys.caller(f"Bearer {ONE}"), keys.caller(f"Bearer {TWO}")
    mark = mine.mark(answer)
    assert Keys([ONE]).caller(f"Bearer {ONE}").owns(answer, mark), "in another worker too"
    assert not yours.owns(answer, mark)
    assert not mine.owns(other, mark)
    assert not mine.owns(answer, ""), "an answer from before there were keys"


def test_neither_a_mark_nor_a_client_nor_a_caller_shows_the_key(keys: Keys) -> None:
    caller = keys.caller(f"Bearer {ONE}")
    shown = f"{caller.mark(new_answer_id())} {caller.client('192.0.2.1')} {caller!r} {keys!r}"
    assert ONE not in shown
    assert caller.mark(new_answer_id()) != caller.mark(new_answer_id()), "two answers of one key are not seen to be"


def test_one_key_is_one_client_wherever_it_asks_from(keys: Keys) -> None:
    caller = keys.caller(f"Bearer {ONE}")
    assert caller.client("192.0.2.1") == caller.client("192.0.2.2")
    assert caller.client("192.0.2.1") != keys.caller(f"Bearer {TWO}").client("192.0.2.1")
