"""Headers as cyclone's handlers look for them."""

from __future__ import annotations

from cyclone_sse.http.headers import Headers


def test_repeated_headers_are_kept_one_by_one_and_together() -> None:
    names = (b"Host", b"a", b"host", b"A", b"B", b"a", b"b")
    headers = Headers.from_raw([(name, b" %d " % number) for number, name in enumerate(names)])
    assert headers.get_list("host") == ["0", "2"]
    assert headers["a"] == "1,3,5"
    assert list(headers.get_all()) == [
        ("Host", "0"),
        ("Host", "2"),
        ("A", "1"),
        ("A", "3"),
        ("A", "5"),
        ("B", "4"),
        ("B", "6"),
    ]
    assert headers.repeated == {"Host", "A", "B"}


def test_names_have_no_case() -> None:
    headers = Headers.from_raw([(b"lAST-eVENT-iD", b"1")])
    assert headers.get("last-event-id") == headers["Last-Event-ID"] == headers.exact("Last-Event-Id") == "1"
    assert "LAST-EVENT-ID" in headers
    assert headers.get("other", "x") == "x"
    assert headers.get_list("last-event-id") == ["1"]
    headers.add("last-event-id", "2")
    assert headers["Last-Event-Id"] == "1,2"


def test_cookies_in_several_fields_stay_cookies() -> None:
    headers = Headers.from_raw([(b"Cookie", b"a=1"), (b"Cookie", b"b=2; c=3")])
    assert headers["Cookie"] == "a=1; b=2; c=3"


def test_long_names_are_not_remembered() -> None:
    from cyclone_sse.http import headers

    before = len(headers._known_names)
    for number in range(50):
        assert headers.header_name(b"x" * 1000 + b"%d" % number).startswith("Xx")
    assert len(headers._known_names) == before


def test_so_many_names_are_remembered_at_most() -> None:
    from cyclone_sse.http import headers

    for number in range(1000):
        assert headers.header_name(b"x-%d" % number) == f"X-{number}"
    assert len(headers._known_names) <= headers._MAX_KNOWN


def test_a_copy_is_changed_apart() -> None:
    headers = Headers.from_raw([(b"A", b"1"), (b"B", b"2"), (b"B", b"3")])
    copied = headers.copy()
    copied.add("A", "x")
    copied.add("B", "x")
    assert copied.get_list("A") == ["1", "x"]
    assert copied.get_list("B") == ["2", "3", "x"]
    assert copied.repeated == {"B"}
    assert dict(headers) == {"A": "1", "B": "2,3"}
    assert headers.get_list("B") == ["2", "3"]


def test_a_header_that_came_once_can_be_changed() -> None:
    pairs = [(b"A", b"1"), (b"B", b"2")]
    headers = Headers.from_raw(pairs)
    headers.add("a", "x")
    assert headers.get_list("A") == ["1", "x"]
    headers = Headers.from_raw(pairs)
    del headers["a"]
    assert list(headers.get_all()) == [("B", "2")]
