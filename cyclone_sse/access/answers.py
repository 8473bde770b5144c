"""The meaning of an application's answer to ``--auth-url``. Plain Python.

There are three decisions: 401 or 403, which are passed on; 204, or any 2xx with an empty body, ``true`` or
``null``; and a 2xx with a JSON object, which may restrict the grant. The content type does not matter. Any
other answer is not a decision: without this, the page of a single-page application, a login form with status
200 or PHP's report of an error would open every channel to every client.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cyclone_sse.access.grant import MAX_SECONDS, Grant, compact_info, user_name
from cyclone_sse.errors import Refusal
from cyclone_sse.strict_json import read_json

_HINTS = {
    400: "Django: ALLOWED_HOSTS lacks the name in Host, see --auth-host",
    404: "is the path of --auth-url right?",
    405: "it must accept GET",
    421: "it does not know the name in Host: see --auth-host",
    429: "it limits the rate of requests: exempt this server",
}


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer to one request. challenge: its WWW-Authenticate. location: its Location."""

    status: int
    body: bytes = b""
    challenge: str | None = None
    location: str | None = None


class NoDecision(Exception):
    """The application has not decided. The text is for the log: what the application did, and a hint."""


def decide(answer: HttpAnswer, channels: Sequence[str], now: float) -> Grant:
    """The grant in the answer, for these channels. now: the wall clock. Raises Refusal or NoDecision."""
    if answer.status == 401:
        raise Refusal(
            401, "the application wants you to log in", {"WWW-Authenticate": answer.challenge or "Bearer"}
        )
    if answer.status == 403:
        raise Refusal(403, f"the application does not allow {', '.join(channels)}")
    if not 200 <= answer.status < 300:
        raise NoDecision(_with_hint(answer))
    body = answer.body.removeprefix(codecs.BOM_UTF8)
    if not body:
        return Grant(None, tuple(channels), exact=True)
    try:
        value = read_json(body)
    except ValueError:
        raise NoDecision(f"answered {answer.status} with {_kind(body)}, which is no decision") from None
    if value is True or value is None:
        return Grant(None, tuple(channels), exact=True)
    if not isinstance(value, dict):
        shown = "false" if value is False else f"JSON that is {_JSON_KINDS.get(type(value), 'no object')}"
        raise NoDecision(f"answered {answer.status} with {shown}: to say no, answer 403")
    try:
        return grant_of(value, channels, now)
    except ValueError as error:
        raise NoDecision(f"answered {answer.status} with JSON in which {error}") from None


def grant_of(answer: dict[str, object], channels: Sequence[str], now: float) -> Grant:
    """The grant in ``{"channels": [..], "user": "42", "expires": 3600, "info": ..}``, each of which may be
    missing. The names are exact. Raises ValueError."""
    names = answer.get("channels", list(channels))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("channels is not a list of names")
    seconds = answer.get("expires")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise ValueError("expires is not a number of seconds above 0")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError("expires is not a number of seconds above 0")
    expires = None if seconds is None else now + min(seconds, MAX_SECONDS)
    user, info = user_name(answer.get("user"), "user"), compact_info(answer.get("info"))
    return Grant(user, tuple(names), (), expires, info, exact=True)


_JSON_KINDS = {str: "a text", list: "a list", int: "a number", float: "a number"}


def _kind(body: bytes) -> str:
    """The kind of a body that is not JSON. The body itself is never shown: it may be about a user."""
    start = body[:1000].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith((b"<br />", b"<b>", b"warning:", b"notice:", b"deprecated:", b"fatal error:")):
        return "an error message of PHP (see display_errors)"
    return "markup" if start.startswith(b"<") else "text that is not JSON"


def _with_hint(answer: HttpAnswer) -> str:
    """The status with its usual cause."""
    hint = _HINTS.get(answer.status)
    if answer.status in (301, 302, 303, 307, 308):
        if (answer.location or "").startswith("https:"):
            hint = (
                "it requires https: set --auth-url to an https URL, or make it trust X-Forwarded-Proto "
                "(Django: SECURE_PROXY_SSL_HEADER), which has the scheme of the client's request"
            )
        else:
            hint = "it redirects, maybe to a login page: answer 401 instead"
    return f"answered {answer.status} ({hint})" if hint else f"answered {answer.status}"
