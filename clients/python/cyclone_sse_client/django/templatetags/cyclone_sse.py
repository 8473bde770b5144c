"""``{% load cyclone_sse %}``: a token with which the page may subscribe to private channels."""

from __future__ import annotations

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured

from cyclone_sse_client.django import conf
from cyclone_sse_client.tokens import make_token

register = template.Library()


@register.simple_tag(takes_context=True)
def sse_token(context: Any, *channels: str, seconds: int | None = None) -> str:
    """A token for the user: ``{% sse_token %}`` or ``{% sse_token "front" "news-*" seconds=300 %}``.

    The default channels are those that ``CYCLONE_SSE["CHANNELS"]`` returns for the request. A page with a
    token must not be cached for other users.
    """
    secret = conf.get("JWT_SECRET")
    if not secret:
        raise ImproperlyConfigured("CYCLONE_SSE has no JWT_SECRET: it is the server's --jwt-secret")
    request = context["request"]
    user = getattr(request, "user", None)
    names = channels or conf.function("CHANNELS")(request)
    known = user is not None and user.is_authenticated
    return make_token(secret, names, user=user.pk if user and known else None, seconds=seconds or conf.get("EXPIRES"))
