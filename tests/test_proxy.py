"""Which proxy a URL is asked through, as a table."""

import base64

import pytest

from service.upstream.proxy import ProxyAddress, UnusableProxy, proxy_for

PROXY = ProxyAddress("http", "proxy.example", 3128)
PROXIES = {"http_proxy": "http://proxy.example:3128", "https_proxy": "http://proxy.example:3128"}


def basic(words: str) -> str:
    return f"Basic {base64.b64encode(words.encode()).decode()}"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://api.example/v1", None),
        ({"https_proxy": "http://proxy.example:3128"}, "https://api.example/v1", PROXY),
        ({"https_proxy": "http://proxy.example:3128"}, "http://api.example/v1", None),
        ({"http_proxy": "http://proxy.example:3128"}, "http://api.example/v1", PROXY),
        ({"http_proxy": "http://proxy.example:3128"}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "https://api.example/v1", PROXY),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, "http://api.example/v1", PROXY),
        ({"https_proxy": "http://proxy.example:3128", "HTTPS_PROXY": "http://no:1"}, "https://api.example/v1", PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": "http://proxy.example:3128"}, "https://api.example/v1", PROXY),
        ({"https_proxy": " \n", "HTTPS_PROXY": ""}, "https://api.example/v1", None),
        ({"https_proxy": " http://proxy.example:3128\n"}, "https://api.example/v1", PROXY),
        # Neither curl's ALL_PROXY for SOCKS nor a variable of another scheme is for these.
        ({"ALL_PROXY": "socks5://proxy.example:1", "ftp_proxy": "http://no:1"}, "https://api.example/v1", None),
    ],
)
def test_the_variable_of_the_urls_scheme_names_the_proxy(
    environment: dict[str, str], url: str, proxy: ProxyAddress | None
) -> None:
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy.example:3128", PROXY),
        ("proxy.example", ProxyAddress("http", "proxy.example", 80)),
        ("http://proxy.example", ProxyAddress("http", "proxy.example", 80)),
        ("http://proxy.example:3128/", PROXY),
        ("HTTP://Proxy.Example:3128", PROXY),
        ("https://proxy.example", ProxyAddress("https", "proxy.example", 443)),
        ("https://proxy.example:3129", ProxyAddress("https", "proxy.example", 3129)),
        ("http://[2001:db8::1]:3128", ProxyAddress("http", "2001:db8::1", 3128)),
        ("[2001:db8::1]:3128", ProxyAddress("http", "2001:db8::1", 3128)),
        ("https://[::1]", ProxyAddress("https", "::1", 443)),
        ("http://127.0.0.1:9", ProxyAddress("http", "127.0.0.1", 9)),
        ("http://me:p%40ss@proxy.example:3128", ProxyAddress("http", "proxy.example", 3128, basic("me:p@ss"))),
        ("me:a:b@proxy.example:3128", ProxyAddress("http", "proxy.example", 3128, basic("me:a:b"))),
        ("http://me@proxy.example:3128", ProxyAddress("http", "proxy.example", 3128, basic("me:"))),
        ("http://:token@proxy.example:3128", ProxyAddress("http", "proxy.example", 3128, basic(":token"))),
        ("http://m%C3%A9:x@proxy.example:3128", ProxyAddress("http", "proxy.example", 3128, basic("mé:x"))),
    ],
)
def test_a_proxys_address_is_read_in_each_of_its_forms(value: str, proxy: ProxyAddress) -> None:
    assert proxy_for("https://api.example/v1", {"https_proxy": value}) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/v1",
        "http://localhost:11434/v1",
        "https://localhost./v1",
        "http://LOCALHOST/v1",
        "http://model.localhost:8000/v1",
        "http://127.0.0.1:9/",
        "https://127.8.9.10/v1",
        "https://[::1]:21004/v1",
        "https://[0:0:0:0:0:0:0:1]/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "http://0.0.0.0:11434/v1",
    ],
)
@pytest.mark.parametrize("exceptions", ["", "other.example"])
def test_an_address_of_this_machine_is_never_asked_through_a_proxy(url: str, exceptions: str) -> None:
    assert proxy_for(url, {**PROXIES, "no_proxy": exceptions}) is None


@pytest.mark.parametrize(
    "url", ["http://localhost.example/v1", "http://notlocalhost/v1", "http://128.0.0.1/v1", "http://[::2]/v1"]
)
def test_an_address_that_only_looks_like_this_machines_is_asked_through_the_proxy(url: str) -> None:
    assert proxy_for(url, PROXIES) == PROXY


@pytest.mark.parametrize(
    ("exceptions", "url"),
    [
        ("*", "https://api.example/v1"),
        ("other.example,*", "https://api.example/v1"),
        ("api.example", "https://api.example/v1"),
        ("API.Example", "https://api.example/v1"),
        ("api.example", "https://API.EXAMPLE/v1"),
        ("api.example", "https://api.example./v1"),
        ("api.example.", "https://api.example/v1"),
        ("example", "https://api.example/v1"),
        (".example", "https://api.example/v1"),
        ("*.example", "https://api.example/v1"),
        (".api.example", "https://api.example/v1"),
        ("other, api.example ,another", "https://api.example/v1"),
        ("other api.example", "https://api.example/v1"),
        ("other.example\napi.example\n", "https://api.example/v1"),
        ("folyó.example", "https://xn--foly-tqa.example/v1"),
        # With a port, which may be the scheme's own.
        ("api.example:443", "https://api.example/v1"),
        ("api.example:80", "http://api.example/v1"),
        (".example:8000", "http://api.example:8000/v1"),
        ("other,192.0.2.1:21001", "http://192.0.2.1:21001/v1"),
        # Addresses and networks.
        ("192.0.2.1", "http://192.0.2.1/v1"),
        ("192.0.2.0/24", "http://192.0.2.77:8000/v1"),
        ("192.0.2.9/24", "http://192.0.2.77/v1"),
        ("10.0.0.0/8,192.0.2.0/24", "http://192.0.2.77/v1"),
        ("2001:db8::1", "https://[2001:db8::1]/v1"),
        ("[2001:db8::1]", "https://[2001:db8::1]/v1"),
        ("[2001:db8::1]:21004", "https://[2001:db8::1]:21004/v1"),
        ("2001:DB8:0::0001", "https://[2001:db8::1]/v1"),
        ("2001:db8::/32", "https://[2001:db8::1]:8000/v1"),
        ("192.0.2.1", "http://[::ffff:192.0.2.1]/v1"),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_is_excepted_is_asked_directly(name: str, exceptions: str, url: str) -> None:
    assert proxy_for(url, {**PROXIES, name: exceptions}) is None
    # What is not asked is not checked.
    assert proxy_for(url, {"http_proxy": "socks5://no:1", "https_proxy": "socks5://no:1", name: exceptions}) is None


@pytest.mark.parametrize(
    ("exceptions", "url"),
    [
        ("", "https://api.example/v1"),
        (" , ,", "https://api.example/v1"),
        ("pi.example", "https://api.example/v1"),
        ("other.api.example", "https://api.example/v1"),
        ("api.example:8000", "https://api.example/v1"),
        ("api.example:443", "https://api.example:8443/v1"),
        ("api.example:443", "http://api.example/v1"),
        (".", "https://api.example/v1"),
        ("http://api.example", "https://api.example/v1"),
        # An address has no subdomains, and a name is in no network.
        ("2.1", "http://192.0.2.1/v1"),
        ("192.0.2.1:1", "http://192.0.2.1/v1"),
        ("192.0.2.2", "http://192.0.2.1/v1"),
        ("192.0.3.0/24", "http://192.0.2.1/v1"),
        ("192.0.2.0/99", "http://192.0.2.1/v1"),
        ("0.0.0.0/0", "http://api.example/v1"),
        ("0.0.0.0/0", "http://[2001:db8::1]/v1"),
        ("[2001:db8::1]:1", "https://[2001:db8::1]/v1"),
        ("2001:db8::2", "https://[2001:db8::1]/v1"),
    ],
)
def test_what_is_not_excepted_is_asked_through_the_proxy(exceptions: str, url: str) -> None:
    assert proxy_for(url, {**PROXIES, "no_proxy": exceptions}) == PROXY


def test_the_exceptions_in_lower_case_count_unless_they_are_empty() -> None:
    url = "https://api.example/v1"
    assert proxy_for(url, {**PROXIES, "no_proxy": "other", "NO_PROXY": "api.example"}) == PROXY
    assert proxy_for(url, {**PROXIES, "no_proxy": "", "NO_PROXY": "api.example"}) is None


@pytest.mark.parametrize(
    "value",
    [
        "socks5://127.0.0.1:9",
        "socks5h://sk-secret@proxy.example:9",
        "nonsense:x",
        "http://",
        "https://:3128",
        "http://sk-secret:port",
        "http://proxy.example:99999",
        "http://proxy.example:0",
        "http://[bad",
        "http://exa mple:3128",
        "http://proxy\n.example:3128",
        "http://proxy.example:3128\x00",
        "ftp://proxy.example",
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_could_never_be_asked_is_refused_and_not_shown(variable: str, value: str) -> None:
    with pytest.raises(UnusableProxy) as caught:
        proxy_for("https://api.example/v1", {variable: value})
    assert str(caught.value).startswith(f"{variable}: Should be http://host:port or https://host:port; SOCKS")
    assert "sk-secret" not in str(caught.value)
    assert proxy_for("http://api.example/v1", {variable: value}) is None


def test_a_proxys_credentials_are_not_shown() -> None:
    shown = repr(proxy_for("https://api.example/v1", {"https_proxy": "http://me:sk-secret@proxy.example"}))
    assert "proxy.example" in shown
    assert "Basic" not in shown
