"""What an operator should know about who can reach what: lines for the log, at the start."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

_RULES = ("http-secret", "jwt-secret", "jwt-keys", "auth-url", "app")  # a custom application has its own


def warnings(settings: Mapping[str, Any]) -> list[str]:
    """One line for each thing that may not be meant. settings: all options."""
    lines = []
    if _is_exposed(settings) and not any(settings[name] for name in _RULES):
        what = "publish, and hear every channel" if settings["http-publish"] else "hear every channel"
        lines.append(
            f"whoever reaches this server may {what}: "
            "see --http-secret, --jwt-secret, --jwt-keys and --auth-url"
        )
    restricted = any(settings[name] for name in ("jwt-secret", "jwt-keys", "auth-url"))
    if settings["patterns"] and not restricted and settings["broker"] == "redis":
        lines.append("--patterns=1: whoever reaches this server may hear all that is said on this Redis")
    if "null" in settings["cors-origin"]:
        lines.append("--cors-origin=null: every page may read, from a frame that is sandboxed")
    return lines


def _is_exposed(settings: Mapping[str, Any]) -> bool:
    """Whether anybody beyond this machine can reach it."""
    interfaces = [_interface(endpoint) for endpoint in settings["endpoint"]]
    if settings["port"] and not settings["endpoint"]:
        interfaces.append(settings["listen"])
    if settings["use-ssl"]:
        interfaces.append(settings["ssl-listen"])
    return not all(interface is None or _is_loopback(interface) for interface in interfaces)


def _interface(endpoint: str) -> str | None:
    """The interface of a Twisted endpoint description; None for a socket in the file system."""
    if endpoint.startswith("unix:"):
        return None
    _, found, interface = endpoint.replace("\\:", "\0").partition("interface=")
    return interface.partition(":")[0].replace("\0", ":") if found else ""


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False
