"""`make run` asks the API once before it starts; a proxy that it cannot use is named."""

import base64
import socket
import threading

import pytest

from deploy.local import probes
from deploy.local.errors import CannotRun
from tests.upstream.process import UpstreamProcess

END_SECONDS = 10.0


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
        probes.models(f"{scheme}://upstream.example/v1", "key")
    assert proxy not in str(raised.value)


@pytest.mark.parametrize("key", ["key", ""])
def test_an_api_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, upstream: UpstreamProcess, key: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert probes.models(upstream.base_url, key) == ["test-model"]
    with pytest.raises(CannotRun, match="cannot be reached"):
        probes.models("http://192.0.2.1/v1", "key")


def test_the_proxy_that_the_service_will_ask_is_asked_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []
    body = b'{"data": [{"id": "a-model"}]}'

    def proxy(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            heads.append(connection.recv(1 << 16))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(END_SECONDS)
        serving = threading.Thread(target=proxy, args=(listening,))
        serving.start()
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{listening.getsockname()[1]}")
        assert probes.models("http://upstream.example/v1", "key") == ["a-model"]
        serving.join()
    [head] = heads
    assert head.startswith(b"GET http://upstream.example/v1/models HTTP/1.1\r\n")
    assert b"Basic " + base64.b64encode(b"me:p@ss") in head
