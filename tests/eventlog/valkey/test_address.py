"""The URL of a Valkey."""

import pytest

from service.eventlog import UnusableLog
from service.eventlog.valkey.address import Address, Credentials, Host, Tls, parse_address

HERE = (Host("localhost", 6379),)
SENTINELS = (Host("one", 26379), Host("two", 7000))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("valkey://localhost", Address(HERE)),
        ("redis://localhost", Address(HERE)),
        ("valkey://localhost/", Address(HERE)),
        ("valkey://localhost:7000/2", Address((Host("localhost", 7000),), database=2)),
        ("valkey://[::1]:7000", Address((Host("::1", 7000),))),
        ("valkey://10.0.0.1?database=3&prefix=chat", Address((Host("10.0.0.1", 6379),), database=3, prefix="chat")),
        ("valkey://user:p%40ss@localhost", Address(HERE, credentials=Credentials("user", "p@ss"))),
        ("valkey://:pa:ss@localhost", Address(HERE, credentials=Credentials("default", "pa:ss"))),
        ("valkey://pass@localhost", Address(HERE, credentials=Credentials("default", "pass"))),
        ("valkey://pa@ss@localhost", Address(HERE, credentials=Credentials("default", "pa@ss"))),
        ("valkeys://localhost", Address(HERE, tls=Tls())),
        ("rediss://localhost?ca=/etc/ca.pem", Address(HERE, tls=Tls("/etc/ca.pem"))),
        (
            "valkeys://localhost?certificate=/etc/client.pem&key=%2Fetc%2Fclient.key",
            Address(HERE, tls=Tls(None, "/etc/client.pem", "/etc/client.key")),
        ),
        ("valkey+sentinel://one,two:7000/folyam", Address(SENTINELS, primary="folyam")),
        (
            "valkeys+sentinel://user:secret@one,two:7000/my%20primary?database=1&sentinel_password=s",
            Address(
                SENTINELS,
                primary="my primary",
                database=1,
                credentials=Credentials("user", "secret"),
                sentinel_credentials=Credentials("default", "s"),
                tls=Tls(),
            ),
        ),
    ],
)
def test_a_url_says_where_the_server_is(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("valkey://", "Should be valkey://"),
        ("valkey:///0", "Should be valkey://"),
        ("valkey://:canary@", "Should be valkey://"),
        ("valkey://:canary@host#part", "Should be valkey://"),
        ("valkey://:canary/x@host", "host"),
        ("valkey://:canary@ho st", "Each host"),
        ("valkey://:canary@host:0", "Each host"),
        ("valkey://:canary@host:65536", "Each host"),
        ("valkey://:canary@host:port", "Each host"),
        ("valkey://:canary@::1", "Each host"),
        ("valkey://:canary@one,two", "Several hosts"),
        ("valkey://:canary@host/canary", "The database"),
        ("valkey://:canary@host/-1", "The database"),
        ("valkey+sentinel://:canary@one,two", "name of the primary"),
        ("valkey+sentinel://:canary@one,/folyam", "Each host"),
        ("valkey://:canary@host?prefix=", "The prefix"),
        ("valkey://:canary@host?prefix={canary}", "The prefix"),
        ("valkey://:canary@host?canary=1", "no other names"),
        ("valkey://:canary@host?canary", "<name>=<value>"),
        ("valkey://:canary@host?ca=/canary", "need TLS"),
        ("valkeys://:canary@host?key=/canary", "A key needs"),
        ("valkey://:canary%ff@host?prefix=%ff", "The prefix"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url: str, sentence: str) -> None:
    with pytest.raises(UnusableLog, match=sentence) as caught:
        parse_address(url)
    assert "canary" not in str(caught.value)


def test_an_address_never_shows_its_passwords() -> None:
    address = parse_address("valkey+sentinel://user:canary@one/folyam?sentinel_password=canary")
    assert "canary" not in repr(address)
    assert "canary" not in f"{address}"
