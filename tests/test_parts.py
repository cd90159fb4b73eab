"""Each test is in one part: quick, or with servers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.parts import HERE, PARTLY, SERVERS, is_left_out, pytest_collection_modifyitems

BOTH = PARTLY[0]
QUICK = "test_parts.py"


class Item:
    """What a test is to the part's choice."""

    def __init__(self, module: str, *, with_servers: bool) -> None:
        self.path = HERE / module
        self.nodeid = f"tests/{module}::test_x"
        self._marker = object() if with_servers else None

    def get_closest_marker(self, _: str) -> object | None:
        return self._marker


def chosen(part: str | None, items: list[Item]) -> list[Item]:
    """Return those of the items that stay."""
    hook = SimpleNamespace(pytest_deselected=lambda **_: None)
    config = SimpleNamespace(getoption=lambda _: part, hook=hook)
    given: Any = [*items]
    pytest_collection_modifyitems(cast(pytest.Config, config), given)
    return cast(list[Item], given)


def test_the_modules_and_directories_are_there() -> None:
    assert [place for place in (*SERVERS, *PARTLY) if not (HERE / place).exists()] == []


@pytest.mark.parametrize(
    ("module", "left_out_of"),
    [
        (QUICK, {"servers"}),
        (BOTH, set()),
        ("e2e/page/test_tabs.py", {"quick"}),
        ("eventlog/valkey/test_rights.py", {"quick"}),
        ("test_sandbox.py", {"quick"}),
        ("runs/test_x.py", {"servers"}),
    ],
)
def test_a_module_is_imported_for_the_parts_that_have_tests_in_it(module: str, left_out_of: set[str]) -> None:
    assert {part for part in ("quick", "servers", None) if is_left_out(module, part)} == left_out_of


def test_a_module_of_both_parts_gives_each_its_own() -> None:
    quick, slow = items = [Item(BOTH, with_servers=False), Item(BOTH, with_servers=True)]
    assert chosen("quick", items) == [quick]
    assert chosen("servers", items) == [slow]
    assert chosen(None, items) == items


def test_a_directory_with_servers_needs_no_marker() -> None:
    items = [Item("e2e/test_resume.py", with_servers=False)]
    assert chosen("servers", items) == items


@pytest.mark.parametrize("part", ["quick", "servers", None])
def test_a_test_with_servers_that_no_part_would_run_is_an_error(part: str | None) -> None:
    with pytest.raises(pytest.UsageError, match=rf"tests/{QUICK}::test_x .* PARTLY"):
        chosen(part, [Item(QUICK, with_servers=True)])
