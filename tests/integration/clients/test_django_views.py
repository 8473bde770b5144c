"""What the view that --auth-url asks makes of a function's decision; with no server and no project."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.conf import settings

if not settings.configured:
    settings.configure()
    django.setup()

from cyclone_sse_client.calls import Calls
from cyclone_sse_client.django import views
from cyclone_sse_client.django.backends import NullBackend, RecordingBackend
from cyclone_sse_client.django.views import may_subscribe_by
from django.http import QueryDict

KNOWN = SimpleNamespace(is_authenticated=True, pk=7)
UNKNOWN = SimpleNamespace(is_authenticated=False, pk=None)


def ask(decided: Any, user: object = KNOWN, query: str = "channels=a&channels=b") -> tuple[int, Any]:
    """Status and JSON of the answer."""
    request: Any = SimpleNamespace(GET=QueryDict(query), user=user)
    decide: Callable[..., Any] = decided if callable(decided) else lambda request, channels: decided
    answer = may_subscribe_by(decide)(request)
    return answer.status_code, json.loads(answer.content or b"null")


@pytest.mark.parametrize(
    ("decided", "fields"),
    [
        (True, {}),
        (["b", "c"], {"channels": ["b"]}),
        ({"a": 1, "b": 2}.keys(), {"channels": ["a", "b"]}),
        (
            {"info": {"name": "Ann"}, "expires": 60},
            {"channels": ["a", "b"], "info": {"name": "Ann"}, "expires": 60},
        ),
        ({"channels": ["a"], "user": "x"}, {"channels": ["a"], "user": "x"}),
    ],
)
def test_what_is_allowed(decided: Any, fields: dict[str, Any]) -> None:
    assert ask(decided) == (200, {"user": "7", "expires": 3600} | fields)
    anonymous = {"expires": 3600} | fields
    assert ask(decided, UNKNOWN) == (200, anonymous)


@pytest.mark.parametrize("decided", [False, None, [], ["c"], {"channels": []}, set()])
def test_what_is_not(decided: Any) -> None:
    assert ask(decided) == (403, None)
    assert ask(decided, UNKNOWN) == (401, None)
    assert ask(decided, None) == (401, None)


@pytest.mark.parametrize("decided", ["a", 1, b"ab", object()])
def test_what_can_only_be_a_mistake(decided: Any) -> None:
    with pytest.raises(TypeError, match="returned"):
        ask(lambda request, channels: decided)


def test_no_channel_is_nothing_to_allow() -> None:
    assert ask(True, query="") == (403, None)


@pytest.mark.parametrize("view", [views.may_subscribe, may_subscribe_by(lambda request, channels: True)])
def test_the_view_answers_for_itself_where_pages_need_a_login(view: Any) -> None:
    """The redirect of LoginRequiredMiddleware, which reads this, would be no decision: 503, not 401."""
    assert view.login_required is False


@pytest.mark.parametrize("backend", [RecordingBackend, NullBackend])
def test_a_page_without_a_server_finds_an_empty_room(backend: type[RecordingBackend | NullBackend]) -> None:
    presence = backend().call(Calls().presence("room-ü"))
    assert presence == {"channel": "room-ü", "members": {}, "anonymous": 0}
    assert backend().call(Calls().state("room-ü")) == {}
