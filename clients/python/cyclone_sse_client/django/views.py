"""The view for ``--auth-url``, which decides whether a client may subscribe.

::

    path("push/auth", may_subscribe)                       # CYCLONE_SSE["MAY_SUBSCRIBE"] names your function
    path("push/auth", may_subscribe_by(allowed_channels))  # or pass your function here
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from cyclone_sse_client.django import conf

Decide = Callable[[HttpRequest, list[str]], Any]
View = Callable[[HttpRequest], HttpResponse]


def _without_login(view: View) -> View:
    """Let the view answer 401 itself. The redirect of Django's LoginRequiredMiddleware would be no decision."""
    view.login_required = False  # type: ignore[attr-defined]
    return view


@_without_login
def may_subscribe(request: HttpRequest) -> HttpResponse:
    """Answer with the decision of the function in the settings."""
    return _answer(request, conf.function("MAY_SUBSCRIBE"))


def may_subscribe_by(decide: Decide) -> View:
    """A view that answers with the decision of this function.

    ``decide(request, channels)`` returns True for all of these channels, False, the channels that are
    allowed, or a dict of the answer's fields: ``channels``, ``user``, ``expires``, and ``info`` for presence.
    None is False: a function that forgets to return allows nothing.
    """

    @_without_login
    def view(request: HttpRequest) -> HttpResponse:
        return _answer(request, decide)

    return view


def _answer(request: HttpRequest, decide: Decide) -> HttpResponse:
    asked = list(dict.fromkeys(request.GET.getlist("channels")))
    user = getattr(request, "user", None)
    known = user is not None and user.is_authenticated
    fields = _fields(decide(request, asked), asked)
    if not asked or fields is None:
        # 401: logging in may help; 403: it does not.
        return HttpResponse(status=403 if known else 401)
    if known:
        fields.setdefault("user", str(getattr(user, "pk", "")))
    fields.setdefault("expires", conf.get("EXPIRES"))
    answer = JsonResponse(fields)
    answer["Cache-Control"] = "no-store"
    return answer


def _fields(decided: Any, asked: Iterable[str]) -> dict[str, Any] | None:
    """The fields of a positive answer, or None."""
    if decided is True:
        return {}
    if decided is False or decided is None:
        return None
    if isinstance(decided, dict):
        fields, allowed = dict(decided), decided.get("channels", asked)
    elif isinstance(decided, (str, bytes)) or not isinstance(decided, Iterable):
        # A text would be read as one channel per letter; a coroutine or a number is a mistake. Allow nothing.
        raise TypeError(f"the function that decides returned {type(decided).__name__}")
    else:
        fields, allowed = {}, decided
    allowed_set = set(allowed)
    fields["channels"] = [name for name in asked if name in allowed_set]
    return fields if fields["channels"] else None
