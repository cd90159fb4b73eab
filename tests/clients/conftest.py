"""The stack of tests/e2e, for clients that are other people's."""

from tests.e2e.conftest import Stack, browser, stack, upstream, web_root

__all__ = ["Stack", "browser", "stack", "upstream", "web_root"]
