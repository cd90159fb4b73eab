"""Which tests run in one process of pytest-xdist, and which of these groups begin first.

pytest-xdist 3.8 notes a group in a test's id, and pytest 9.2 does not let it. Its own `--dist=loadgroup` then takes
each test for a group, without a word, and each process starts every module's servers. Hence the scheduler here.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

WITH_SERVERS = ("e2e", "run", "bench", "containers", "faults")
"""Directories whose modules start servers, browsers or containers. The tests of a module share these; those in `faults`
load the machine, so the ones of a module run one after the other."""
LONG = (
    "faults/test_hosts.py",
    "faults/test_faults.py",
    "faults/test_sabotage.py",
    "run/test_make_run.py",
    "e2e/page/test_survival.py",
    "e2e/page/test_quality.py",
    "e2e/page/test_storage.py",
    "e2e/page/test_safety.py",
    "e2e/page/test_conversation.py",
    "e2e/page/test_lighthouse.py",
    "e2e/test_openapi.py",
    "e2e/test_hostile.py",
    "e2e/page/test_without_script.py",
    "e2e/test_reload.py",
    "e2e/test_log_directory.py",
    "e2e/test_drain.py",
    "e2e/page/test_presses.py",
    "e2e/page/test_tabs.py",
    "e2e/test_event_source.py",
    "containers/test_stack.py",
    "containers/test_upgrade.py",
    "containers/test_monitoring.py",
)
"""The groups that take longest, in that order. They begin first: one that begins last runs alone in the end."""


def group_of(nodeid: str) -> str:
    """Return the group that runs in one process, in its order. A test that may run anywhere is its own group."""
    module = nodeid.partition("::")[0].removeprefix("tests/")
    directory = module.partition("/")[0]
    return module if directory in WITH_SERVERS else nodeid


class Groups(LoadScopeScheduling):
    """Gives each process one group after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups | None:
    """Return the scheduler, whatever `--dist` says; None, for pytest-xdist's own, if it is `worksteal`."""
    if config.option.dist == "worksteal":
        return None
    config.option.loadscopereorder = False  # by number of tests, which says little of their time
    return Groups(config, log)  # Without the log, the scheduler prints a line after each test.


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the long groups before the others; within them, and among the others, the order stays."""
    order = {group: number for number, group in enumerate(LONG)}
    items.sort(key=lambda item: order.get(group_of(item.nodeid), len(LONG)))
