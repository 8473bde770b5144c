"""From a target to host, path and query."""

from __future__ import annotations

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.target import is_host, normal_path, split_target


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://a.example/stats", "a.example", "/stats"),
        ("HTTP://a.example", "a.example", "/"),
        ("http://a.example?x=1", "a.example", "/"),
        ("/stats", "x", "/stats"),
        ("/%73tats", "x", "/stats"),
    ],
)
def test_equal_targets_are_equal(target: str, host: str, path: str) -> None:
    assert split_target("GET", target.encode(), "x")[:2] == (host, path)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "*", 400),
        ("GET", "/#x", 400),
        ("GET", "http:///x", 400),
        ("GET", "http://u@a.example/", 400),
        ("GET", "/%zz", 400),
        ("CONNECT", "a.example:443", 501),
    ],
)
def test_what_is_no_target_of_ours_is_refused(method: str, target: str, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        split_target(method, target.encode(), "x")
    assert refused.value.status == status


def test_what_must_stay_encoded_stays() -> None:
    assert normal_path("/%2F%41%7e%00") == "/%2FA~%00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.example", True), ("a.example:80", True), ("[::1]:8888", True), ("a b", False), ("", False)],
)
def test_a_host_is_one(text: str, expected: bool) -> None:
    assert is_host(text) is expected


def test_long_hosts_are_not_remembered() -> None:
    from cyclone_sse.http import target

    before = target._is_short_host.cache_info().currsize
    for number in range(300):
        assert is_host("a" * 200 + str(number))
    assert target._is_short_host.cache_info().currsize == before
