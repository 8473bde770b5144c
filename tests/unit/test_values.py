"""From the text of an option to its value."""

from __future__ import annotations

import pytest

from cyclone_sse import values
from cyclone_sse.values import (
    addresses,
    cookie_name,
    flag,
    integer,
    origins,
    path,
    seconds,
    secret,
    spaced,
    url,
    words,
)


def test_numbers_hold_their_bounds() -> None:
    assert integer(0)("0") == 0
    assert integer(1, 10)("10") == 10
    assert seconds(0)("0.5") == 0.5
    for text in ("-1", "11", "1.0", "x", "", " 1", "\u0661", "9" * 5000):
        with pytest.raises(ValueError, match="expected a whole number from 0 to 10"):
            integer(0, 10)(text)
    for text in ("-1", "inf", "nan", "x", "", "1e10"):
        with pytest.raises(ValueError, match=r"expected a number of seconds from 0\.5 to 1000000000"):
            seconds(0.5)(text)


def test_flags_are_digits() -> None:
    assert [flag("0"), flag("1")] == [False, True]
    with pytest.raises(ValueError, match="0 or 1"):
        flag("yes")


def test_lists() -> None:
    assert words("a, b c,,") == ("a", "b", "c")
    assert words("") == ()
    assert spaced("a,b c") == ("a,b", "c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("*", ("*",)),
        ("null", ("null",)),
        ("HTTPS://WWW.Example.COM/", ("https://www.example.com",)),
        ("http://[::1]:8080 http://b", ("http://[::1]:8080", "http://b")),
        ("https://x:443, http://y:80", ("https://x", "http://y")),
        ("http://x:443", ("http://x:443",)),
        ("https://b\u00fccher.example", ("https://xn--bcher-kva.example",)),
        ("http://[::1]:8000", ("http://[::1]:8000",)),
    ],
)
def test_origins_are_as_browsers_send_them(text: str, expected: tuple[str, ...]) -> None:
    assert origins(text) == expected


@pytest.mark.parametrize(
    "text",
    ["example.com", "http://a/path", "http://a/?x", "http://", "//a", "http://a:x", "http://u@a"],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no user name|Port"):
        origins(text)


def test_urls_are_absolute() -> None:
    assert url("http://127.0.0.1:8000/auth?x=1") == "http://127.0.0.1:8000/auth?x=1"
    for text in ("", "/auth", "ftp://a/", "http://", "http://a:b/", "http://a/#x"):
        with pytest.raises(ValueError, match=r"expected a URL|Port"):
            url(text)


def test_addresses_have_a_host_and_a_port() -> None:
    assert addresses("a:1, [::1]:2") == (("a", 1), ("::1", 2))
    assert addresses("") == ()
    for text in ("a", ":1", "a:", "a:0", "a:x", "a:1/b", "a:70000", "u@a:1"):
        with pytest.raises(ValueError, match=r"expected HOST:PORT|Port"):
            addresses(text)


def test_a_text_is_utf8_and_a_path_need_not_be() -> None:
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")  # as Python reads a command line
    assert (values.text("café"), path(latin)) == ("café", latin)
    for read in (values.text, secret(1)):
        with pytest.raises(ValueError, match=r"^expected UTF-8$"):
            read(latin)


def test_a_secret_is_long_enough_in_bytes() -> None:
    assert secret(4)("\u00e4\u00e4") == "\u00e4\u00e4"
    with pytest.raises(ValueError, match="at least 4 bytes"):
        secret(4)("abc")


def test_the_name_of_a_cookie_can_be_one() -> None:
    assert cookie_name("__Host-token") == "__Host-token"
    for text in ("", "a b", "a;b", "a=b", "\u00e4", "a\n"):
        with pytest.raises(ValueError, match="expected the name of a cookie"):
            cookie_name(text)
