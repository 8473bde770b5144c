"""What a request shows of its client."""

from __future__ import annotations

from typing import Any

import pytest

from cyclone_sse.access.credentials import bearer_token, check_origin, subscriber_tokens
from cyclone_sse.errors import Refusal
from tests.unit.access.fakes import request


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ({}, None),
        ({"Authorization": "Bearer"}, None),
        ({"Authorization": "Bearer  x "}, "x"),
        ({"Authorization": "bearer x"}, "x"),
        ({"Authorization": "Basic x"}, None),
        ({"Authorization": "Bearer x\x85"}, "x\x85"),  # of header text only blanks and tabs are cut
    ],
)
def test_a_bearer(header: dict[str, str], token: str | None) -> None:
    assert bearer_token(request(**header)) == token


def test_the_tokens_of_a_subscription_in_their_order() -> None:
    everything = request("c", Authorization="Bearer a", Cookie='x=y; push="b"; push=z')
    assert subscriber_tokens(everything, "push") == ["a", "b", "c"]
    assert subscriber_tokens(request("", Cookie="push="), "push") == []


@pytest.mark.parametrize(
    ("origin", "host", "public", "cors", "allowed"),
    [
        ("", "push.example", "push.example", (), True),
        ("http://push.example", "push.example", "push.example", (), True),  # as a trusted proxy says
        ("https://push.example", "push.example", "push.example", (), True),  # TLS ended at it
        ("http://evil.example:8888", "evil.example:8888", "", (), False),  # a name that leads here
        ("https://127.0.0.1", "127.0.0.1:443", "", (), True),
        ("http://127.0.0.1:8888", "127.0.0.1:8888", "", (), True),
        ("http://LocalHost:8888", "localhost:8888", "", (), True),
        ("http://localhost.evil.example:8888", "localhost.evil.example:8888", "", (), False),
        ("http://[::1]", "[::1]", "", (), True),
        ("http://[::1]:8888", "[::1]:8888", "", (), True),
        ("http://push.example:8888", "push.example", "", (), False),
        ("https://evil.example", "push.example", "", (), False),
        ("https://evil.example", "push.example", "", ("*",), False),
        ("*", "push.example", "", ("*",), False),
        ("null", "push.example", "", (), False),
        ("null", "push.example", "", ("null",), True),
        ("https://www.example", "push.example", "", ("https://www.example",), True),
        ("https://www.example", "127.0.0.1:8888", "127.0.0.1:8888", (), False),
        ("https://www.example", "127.0.0.1:8888", "www.example", (), True),  # by a trusted proxy
        ("https://evil.example", "", "", (), False),
        ("x", "", "", (), False),
    ],
)
def test_a_page_of_another_site_is_refused(
    origin: str, host: str, public: str, cors: tuple[str, ...], allowed: bool
) -> None:
    given: Any = request(Origin=origin, Host=host, public_host=public)
    if allowed:
        check_origin(given, cors)
        return
    with pytest.raises(Refusal, match="--cors-origin") as raised:
        check_origin(given, cors)
    assert raised.value.status == 403
