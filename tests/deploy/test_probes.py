"""`make run` asks the API once before it starts; a proxy that it cannot use is named."""

import pytest

from deploy.local import probes
from deploy.local.errors import CannotRun


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks5h://localhost:9", "nonsense:x", "http://[bad"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_used_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, scheme: str, proxy: str
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    with pytest.raises(CannotRun, match=rf"{scheme}_proxy: .*http://.*SOCKS") as raised:
        probes.models(f"{scheme}://127.0.0.1:9/v1", "key")
    assert proxy not in str(raised.value)


def test_a_proxy_for_other_addresses_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(CannotRun, match="cannot be reached"):
        probes.models("http://127.0.0.1:9/v1", "key")
