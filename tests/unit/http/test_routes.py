"""Which handler a request is for, and whether it wants a body."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cyclone.web import Application, RequestHandler

from cyclone_sse.handlers import PublishHandler, StatsHandler
from cyclone_sse.http.routes import handler_for, takes_body


class Custom(RequestHandler):  # type: ignore[misc]
    pass


APPLICATION = Application([(r"/publish", PublishHandler), (r"/stats", StatsHandler), (r"/mine", Custom)])


def request(method: str, path: str) -> Any:
    return SimpleNamespace(method=method, path=path, host="x", headers={})


def test_a_path_has_its_handler_or_none() -> None:
    assert handler_for(APPLICATION, request("GET", "/stats")) is StatsHandler
    assert handler_for(APPLICATION, request("GET", "/statistics")) is None


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("POST", "/publish", True),
        ("GET", "/publish", False),
        ("POST", "/stats", False),
        ("POST", "/nowhere", False),
        ("PUT", "/mine", True),
    ],
)
def test_a_body_is_read_only_where_it_is_wanted(method: str, path: str, wanted: bool) -> None:
    assert takes_body(APPLICATION, request(method, path)) is wanted
