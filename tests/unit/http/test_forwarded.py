"""Which client stands behind proxies."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import provider

from cyclone_sse.http.forwarded import Proxies, Trusted, read_address
from cyclone_sse.http.headers import NO_HEADERS
from tests.unit.fakes import headers_of

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def address(trusted: Trusted, chain: str | None, peer: str = "10.0.0.1") -> str:
    headers = headers_of({} if chain is None else {"X-Forwarded-For": chain})
    return Proxies(trusted).client_address(headers, peer)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1:51234", "192.0.2.1"),  # Azure Application Gateway, some of AWS
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:51234", "2001:db8::1"),
        ('"[2001:db8::1]:51234"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2", None),
        ("192.0.2.1:x:y", None),
        ("[192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_address_in_any_of_its_forms(text: str, found: str | None) -> None:
    assert (None if found is None else str(read_address(text))) == found
    assert found is not None or read_address(text) is None


@pytest.mark.parametrize(
    ("trusted", "chain", "peer", "client"),
    [
        (False, "192.0.2.1", "10.0.0.1", "10.0.0.1"),
        (True, None, "10.0.0.1", "10.0.0.1"),
        (True, "6.6.6.6, 192.0.2.1", "10.0.0.1", "192.0.2.1"),
        (True, "6.6.6.6, 10.0.0.2", "203.0.113.9", "10.0.0.2"),  # any peer is trusted: the last entry counts
        (True, "192.0.2.1, unknown", "10.0.0.1", "10.0.0.1"),
        (NETWORKS, None, "10.0.0.1", "10.0.0.1"),
        (NETWORKS, "192.0.2.1", "10.0.0.1", "192.0.2.1"),
        (NETWORKS, "6.6.6.6, 192.0.2.1, 10.0.0.3,10.0.0.2", "10.0.0.1", "192.0.2.1"),
        (NETWORKS, "192.0.2.1:5, [fd00::1]:99", "::ffff:10.0.0.1", "192.0.2.1"),
        (NETWORKS, "192.0.2.1", "203.0.113.9", "203.0.113.9"),  # the peer is no proxy of ours
        (NETWORKS, "192.0.2.1, unknown, 10.0.0.2", "10.0.0.1", "10.0.0.2"),
        (NETWORKS, "10.0.0.3, 10.0.0.2", "10.0.0.1", "10.0.0.3"),  # a client in one of the networks
        (NETWORKS, "192.0.2.1", "", "192.0.2.1"),  # over a UNIX socket
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(
    trusted: Trusted, chain: str | None, peer: str, client: str
) -> None:
    assert address(trusted, chain, peer) == client


def test_a_client_cannot_choose_its_address() -> None:
    """Whatever it sends stands before what the proxies add."""
    for sent in ("", "6.6.6.6", "10.0.0.9", "unknown", "10.0.0.1, 6.6.6.6, 10.0.0.9", ",,,"):
        assert address(NETWORKS, f"{sent}, 192.0.2.1, 10.0.0.2") == "192.0.2.1"


@pytest.mark.parametrize("trusted", [False, NETWORKS])
def test_host_and_scheme_count_from_a_proxy_only(trusted: Trusted) -> None:
    headers = headers_of({"Host": "push", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https"})
    proxies = Proxies(trusted)
    assert proxies.public_host(headers, "203.0.113.9") == "push"
    assert proxies.public_scheme(headers, "203.0.113.9", "http") == "http"


@pytest.mark.parametrize(
    ("proto", "scheme"), [("https", "https"), ("http, HTTPS", "https"), ("ftp", "http"), ("", "http")]
)
def test_the_scheme_of_a_proxy(proto: str, scheme: str) -> None:
    headers = headers_of({"Host": "push", "X-Forwarded-Host": "a, www.example", "X-Forwarded-Proto": proto})
    for trusted in (True, NETWORKS):
        proxies = Proxies(trusted)
        assert proxies.public_scheme(headers, "10.0.0.1", "http") == scheme
        assert proxies.public_host(headers, "10.0.0.1") == "www.example"
    assert Proxies(True).public_host(headers_of({"Host": "push"}), "10.0.0.1") == "push"
    assert Proxies(True).public_host(NO_HEADERS, "10.0.0.1") == ""


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings in the log."""
    found: list[str] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"] is LogLevel.warn:
            found.append(event["log_format"])

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_what_cannot_be_read_is_logged_once_a_minute(warnings: list[str]) -> None:
    clock = Clock()
    proxies = Proxies(True, clock.seconds)
    for wait in (0, 30, 31):
        clock.advance(wait)
        proxies.client_address(headers_of({"X-Forwarded-For": "secret"}), "10.0.0.1")
    assert warnings == ["a proxy sends an X-Forwarded-For in which no address can be read"] * 2
