"""Descriptions of the rules for publishing and subscribing, for the log and for ``--check=1``.

The two are separate: a rule for subscribers protects no channel from publishers, and a key for publishers
hides no channel from subscribers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyclone_sse.options import PUBLISHER_RULES, SUBSCRIBER_RULES

_ANY_CLIENT = "any client"


def subscribers(settings: Mapping[str, Any]) -> str:
    """Describe which clients may subscribe. settings: all options."""
    public = f"; any client to {','.join(settings['public'])}" if settings["public"] else ""
    rules = _given(settings, SUBSCRIBER_RULES)
    if rules:
        return f"with {' or '.join(rules)}{public}"
    return f"as {settings['app']} decides" if settings["app"] else _ANY_CLIENT


def publishers(settings: Mapping[str, Any]) -> str:
    """Describe which clients may publish by HTTP."""
    if not settings["http-publish"]:
        return "no client (--http-publish=1 enables it)"
    rules = _given(settings, PUBLISHER_RULES)
    if rules:
        return f"with {' or '.join(rules)}"
    return f"as {settings['app']} decides" if settings["app"] else _ANY_CLIENT


def warnings(settings: Mapping[str, Any]) -> list[str]:
    """Return one line for each rule that the operator may not have intended."""
    lines = []
    restricted = bool(_given(settings, SUBSCRIBER_RULES))
    if publishers(settings) == _ANY_CLIENT:
        lines.append("any client may publish to every channel: there is no key (docs/access.md)")
    if subscribers(settings) == _ANY_CLIENT and not _given(settings, PUBLISHER_RULES):
        lines.append("any client may subscribe to every channel: there is no rule (docs/access.md)")
    if settings["public"] and not restricted:
        names = ",".join(settings["public"])
        lines.append(f"--public={names} has no effect: all channels are public (docs/access.md)")
    if settings["patterns"] and not restricted and settings["broker"] == "redis":
        lines.append(
            "--patterns=1: any client may receive everything that any program publishes on this Redis"
        )
    if settings["redis-prefix"] and settings["broker"] == "redis-stream":
        lines.append("--redis-prefix has no effect with redis-stream: separate sites by --redis-stream")
    if "null" in settings["cors-origin"]:
        lines.append("--cors-origin=null: every page can read streams, from a sandboxed frame")
    return lines


def _given(settings: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"--{name}" for name in names if settings.get(name)]
