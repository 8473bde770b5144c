"""From the text of an option to its value: the checks that a single value must pass.

Each function reads a text and raises ValueError with what it expects, or makes such a function.
Knows nothing of which options there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = tuple[str, int]  # host, port
Network = IPv4Network | IPv6Network

MOST_SECONDS = 1e9  # 31 years

_DECIMAL = re.compile(r"[0-9]{1,19}")
# RFC 3986, as far as it can be sent: no user name, no fragment, and ASCII alone.
_LABEL = r"(?![a-z0-9]{2}--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?|xn--[a-z0-9-]{1,58}[a-z0-9]"
_AUTHORITY = rf"(?:(?:{_LABEL})(?:\.(?:{_LABEL}))*\.?|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?"
_URL = re.compile(rf"https?://({_AUTHORITY})(?:[/?][!-\"$-~]*)?", re.IGNORECASE)
_HOST = re.compile(_AUTHORITY, re.IGNORECASE)
_UNIX_URL = re.compile(r"unix:(/[^:\s]+)(?::(/[!-\"$-~]*))?")
_USERINFO = re.compile(r"//[^/\s]*@")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110
_SEPARATORS = re.compile(r"[,\s]+")


def path(value: str) -> str:
    """A path, which may have any bytes."""
    return value


def text(value: str) -> str:
    """Any text that can be sent. Without this, no key would match one that was typed in Latin-1."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("expected UTF-8") from None
    return value


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """A whole number in these bounds, both included."""
    expected = f"expected a whole number from {low}" + (" up" if high is None else f" to {high}")

    def read(value: str) -> int:
        if not _DECIMAL.fullmatch(value):
            raise ValueError(expected)
        number = int(value)
        if number < low or (high is not None and number > high):
            raise ValueError(expected)
        return number

    return read


def seconds(least: float) -> Callable[[str], float]:
    """A number of seconds, at least this many, and few enough for every clock and for Redis."""
    expected = f"expected a number of seconds from {least:g} to {MOST_SECONDS:.0f}"

    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(expected) from None
        if not least <= number <= MOST_SECONDS:
            raise ValueError(expected)
        return number

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return value

    return read


def flag(value: str) -> bool:
    """0 or 1."""
    if value not in ("0", "1"):
        raise ValueError("expected 0 or 1")
    return value == "1"


def words(value: str) -> tuple[str, ...]:
    """Words with commas or spaces between them."""
    return tuple(filter(None, _SEPARATORS.split(value)))


def spaced(value: str) -> tuple[str, ...]:
    """Words with spaces between them, for those that may hold commas."""
    return tuple(value.split())


def origins(value: str) -> tuple[str, ...]:
    """Origins of pages (RFC 6454) as browsers send them; or ``*``, or ``null``.

    Browsers send lower case, no port if it is the scheme's own, and international names in ASCII.
    """
    return tuple(_origin(word.rstrip("/")) for word in words(value))


def _origin(value: str) -> str:
    if value in ("*", "null"):
        return value
    parts = urlsplit(value.lower())
    if parts.scheme == "" or not parts.hostname or value.lower() != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(
            "expected * or origins such as https://www.example.com, without a path, separated by commas"
        )
    if parts.username is not None:
        raise ValueError("an origin has no user name")
    default_port = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else _ascii_host(parts.hostname)
    port = "" if parts.port in (None, default_port) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        raise ValueError(f"{host} is not a host name") from None


def url(value: str) -> str:
    """An absolute http or https URL, in the form in which it is sent."""
    found = _URL.fullmatch(value)
    if found is None or not _is_host(found[1]):
        raise ValueError(_wrong_with_url(value))
    _ = urlsplit(value).port  # raises ValueError if it is not a port
    return value


def _is_host(authority: str) -> bool:
    """Whether a host is an address, or a name that can be looked up."""
    if authority.startswith("["):
        address = authority[1:].partition("]")[0]
        try:
            ip_address(address)
        except ValueError:
            return False
        return True
    name = authority.partition(":")[0]
    try:
        name.encode().decode("idna")
    except UnicodeError:
        return False
    return len(name) <= 253


def _wrong_with_url(value: str) -> str:
    host = value.partition("://")[2].partition("/")[0]
    if "@" in host:
        return "leave out user name and password: they are not sent"
    if not host.isascii():
        return "write the host as browsers send it, in ASCII (xn--...)"
    if not value.isascii() or not value.isprintable() or " " in value:
        return "percent-encode spaces and characters that are not ASCII"
    if "_" in host:
        return "a host name has only letters, digits and hyphens, no _"
    return "expected a URL such as https://www.example.com/path"


def server_url(value: str) -> str:
    """An http or https URL; or ``unix:/path/of.sock:/path`` for a server on a UNIX socket."""
    if value.startswith("unix:"):
        if unix_url(value) is None:
            raise ValueError("expected unix:/path/of.sock:/path")
        return value
    return url(value)


def unix_url(value: str) -> tuple[str, str] | None:
    """The socket and the path of a ``unix:`` URL; None if it is of another kind."""
    found = _UNIX_URL.fullmatch(value)
    return (found[1], found[2] or "/") if found else None


def file_or_url(value: str) -> str:
    """The path of a file; or an http or https URL."""
    return url(value) if is_url(value) else value


def is_url(value: str | None) -> bool:
    """Whether a text that may also be the path of a file, or missing, is a URL."""
    return value is not None and value.lower().startswith(("http:", "https:"))


def host_name(value: str) -> str:
    """A name for the header Host, maybe with a port."""
    if not _HOST.fullmatch(value):
        raise ValueError("expected a name such as www.example.com")
    return value


def without_userinfo(value: str) -> str:
    """The text with a user name and password in a URL left out, for a line in a log or on a terminal."""
    return _USERINFO.sub("//...@", value)


def proxies(value: str) -> bool | tuple[Network, ...]:
    """0, 1, or networks of proxies with commas between them."""
    if value in ("0", "1"):
        return value == "1"
    try:
        return tuple(ip_network(word, strict=False) for word in words(value))
    except ValueError:
        raise ValueError("expected 0, 1 or networks such as 10.0.0.0/8,fd00::/8") from None


def addresses(value: str) -> tuple[Address, ...]:
    """``HOST:PORT`` with commas between them; ``[::1]:PORT`` for IPv6."""
    return tuple(_address(word) for word in words(value))


def _address(value: str) -> Address:
    parts = urlsplit(f"//{value}")
    if not parts.hostname or not parts.port or parts.netloc != value or parts.username is not None:
        raise ValueError("expected HOST:PORT,HOST:PORT,...")
    return parts.hostname, parts.port


def secret(least: int) -> Callable[[str], str]:
    """A text of at least this number of bytes."""

    def read(value: str) -> str:
        if len(text(value).encode()) < least:
            raise ValueError(f"expected at least {least} bytes")
        return value

    return read


def cookie_name(value: str) -> str:
    """A name that a cookie can have (RFC 6265). Without this, a typo would make every cookie unknown."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("expected the name of a cookie, such as cyclone_sse_token")
    return value
