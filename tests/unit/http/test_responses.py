"""The head that all answers share, and the answers of a connection itself."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import pytest

from cyclone_sse.errors import Refusal
from cyclone_sse.http.responses import (
    EVERY_ANSWER,
    Cors,
    answer,
    answer_fields,
    plain_http_refused,
    refusal_answer,
)
from tests.unit.http.peer import parse


@pytest.mark.parametrize("origin", [None, "https://a.example"])
def test_any_origin_may_read_by_default(origin: str | None) -> None:
    assert Cors(None).headers(origin) == {"Access-Control-Allow-Origin": "*"}


def test_those_on_the_list_may_read_with_cookies_and_others_not_at_all() -> None:
    cors = Cors(["https://a.example"])
    assert cors.headers("https://A.example")["Access-Control-Allow-Origin"] == "https://A.example"
    assert cors.headers("https://A.example")["Access-Control-Allow-Credentials"] == "true"
    for other in (None, "https://b.example", "null"):
        assert cors.headers(other) == {"Vary": "Origin"}, "a cache must keep the answers apart all the same"


def test_an_answer_has_all_that_every_answer_has() -> None:
    (response,) = parse(answer(200, {"X-Mine": "1"}, b"[]"))
    assert (response.status, response.body) == (200, b"[]")
    assert {name.lower() for name in EVERY_ANSWER} | {"date", "x-mine"} <= set(response.headers)


def test_one_without_a_body_has_neither_length_nor_type() -> None:
    (response,) = parse(answer(204, {}, None))
    assert not {"content-length", "content-type"} & set(response.headers)


def test_a_refusal_says_why_ends_the_connection_and_is_kept_by_no_cache() -> None:
    refusal = Refusal(429, "too many", {"Retry-After": "7"})
    (response,) = parse(refusal_answer(refusal, {"Vary": "Origin"}))
    assert json.loads(response.body) == {"status": "error", "reason": "too many"}
    wanted = {"retry-after": "7", "vary": "Origin", "connection": "close", "cache-control": "no-store"}
    assert wanted.items() <= response.headers.items()


def test_who_speaks_http_on_the_port_of_tls_is_told() -> None:
    (response,) = parse(plain_http_refused())
    assert response.status == 400
    assert b"HTTPS" in response.body


def test_the_date_is_one() -> None:
    assert parsedate_to_datetime(answer_fields({})["Date"]).tzinfo is not None
