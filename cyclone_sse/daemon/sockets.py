"""The sockets to listen on: from the options to sockets that are bound, and do not listen yet.

All errors come before anything is served, while the process may still have the rights that a low
port takes. ``--endpoint`` is in Twisted's own words and read by Twisted; what stands in for its
reactor here keeps the sockets, so that all listen in the same way.

Knows sockets and options; nothing of what is served on them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.python.systemd import ListenFDs

HTTP, HTTPS, ADMIN = "http", "https", "admin"

# Of several addresses that one name has, these may be missing on this machine.
_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound.

    serves: HTTP, HTTPS or ADMIN. factory: what makes its connections where an endpoint wraps ours.
    shared: other processes have this very socket. inode: that of a UNIX socket's file, if it is ours.
    """

    socket: socket.socket
    serves: str
    factory: Any = None
    shared: bool = False
    inode: int | None = None

    @property
    def url(self) -> str:
        """Where it can be reached."""
        scheme = HTTPS if self.serves == HTTPS else HTTP
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"{scheme}://unix:{os.fsdecode(name)}:/"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{scheme}://{host}:{name[1]}/"

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, unless it is a newer server's by now."""
        if self.inode is not None:
            path = self.socket.getsockname()
            with suppress(OSError):
                if os.stat(path).st_ino == self.inode:
                    os.unlink(path)


def open_sockets(settings: Mapping[str, Any], factory: Any, reactor: Any, share: bool = False) -> list[Bound]:
    """All sockets that these options ask for.

    factory: makes the connections of the public ports. share: let other processes bind the same ports.
    Raises ValueError with one line, and leaves none open then.
    """
    share = share or settings["reuse-port"]
    bound: list[Bound] = []
    try:
        for description in settings["endpoint"]:
            bound += _endpoint(description, factory, reactor, share)
        if settings["port"] and not settings["endpoint"]:
            bound += [Bound(each, HTTP) for each in bind(settings["listen"], settings["port"], share)]
        if settings["use-ssl"]:
            bound += [
                Bound(each, HTTPS) for each in bind(settings["ssl-listen"], settings["ssl-port"], share)
            ]
        if settings["admin-port"]:
            bound += [Bound(each, ADMIN) for each in bind(settings["admin-listen"], settings["admin-port"])]
    except ValueError:
        for each in bound:
            each.unlink()
            each.socket.close()
        raise
    return bound


def another(bound: Bound, number: int) -> Bound:
    """One more socket like this one, for the next process that shares its port.

    A UNIX socket, or one that systemd gave, cannot be had twice: all share it. The admin port is no
    common one: the next process has one that is higher by its number. Raises ValueError.
    """
    if bound.shared or bound.socket.family == socket.AF_UNIX:
        return replace(bound, socket=bound.socket.dup(), inode=None)
    host, port, *rest = bound.socket.getsockname()
    if bound.serves == ADMIN:
        return replace(bound, socket=bind(host, port + number)[0])
    try:
        return replace(bound, socket=_bind(bound.socket.family, (host, port, *rest), True))
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def bind(host: str, port: int, share: bool = False) -> list[socket.socket]:
    """Sockets bound to this port of all addresses of a host: localhost is 127.0.0.1 and ::1.

    host: a name or an address, an IPv6 one with or without brackets. Raises ValueError.
    """
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is not a name"
        raise ValueError(f"cannot listen on {where}: {reason}") from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bind(family, address, share))
        except OSError as error:
            failure = error
            if error.errno not in _MISSING:
                break
    if failure is not None and (not sockets or failure.errno not in _MISSING):
        _close(sockets)
        raise ValueError(f"cannot listen on {where}: {failure.strerror}") from None
    return sockets


def _bind(family: int, address: Any, share: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


class _Reactor:
    """What Twisted's endpoints take for a reactor: keeps the sockets that they ask for."""

    def __init__(self, reactor: Any, share: bool) -> None:
        self._reactor = reactor
        self._share = share
        self.bound: list[Bound] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 0, interface: str = "") -> None:
        self.bound += [Bound(each, HTTP, factory) for each in bind(interface or "0.0.0.0", port, self._share)]

    def listenUNIX(
        self, path: str, factory: Any, backlog: int = 0, mode: int = 0o666, wantPID: bool = False
    ) -> None:
        try:
            made = _bind_unix(path, mode)
            self.bound.append(Bound(made, HTTP, factory, inode=os.stat(path).st_ino))
        except OSError as error:
            raise ValueError(error.strerror) from None

    def listenSSL(self, *_: object, **__: object) -> None:
        raise ValueError("for TLS there are --use-ssl and --ssl-port")


def _endpoint(description: str, factory: Any, reactor: Any, share: bool) -> list[Bound]:
    keeper = _Reactor(reactor, share)
    failures: list[Any] = []
    try:
        if description.startswith("systemd:"):
            return [_inherited(description, _first_environment())]
        endpoint = serverFromString(keeper, description)
        listening: Deferred[Any] = endpoint.listen(factory or Factory())
    except LookupError:
        raise ValueError(f"--endpoint={description}: no such socket was handed over") from None
    except Exception as error:
        # Twisted's parsers, and those of its plugins, raise what they like.
        raise ValueError(f"--endpoint={description}: {error or type(error).__name__}") from None
    listening.addErrback(failures.append)
    if failures:
        reason = failures[0].value
        raise ValueError(f"--endpoint={description}: {reason}") from None
    return keeper.bound


def _inherited(description: str, environment: Mapping[str, str]) -> Bound:
    """A socket that systemd hands over, told as in Twisted: ``systemd:domain=INET:index=0``, or ``name=``.

    Not by Twisted's own parser: it takes no sockets without names, which systemd-socket-activate
    gives them only if it is asked to. Raises LookupError.
    """
    count = environment.get("LISTEN_FDS", "0")
    unnamed = ":".join(["unknown"] * int(count))  # as sd_listen_fds_with_names(3) has it
    found = ListenFDs.fromEnvironment({"LISTEN_FDNAMES": unnamed, **environment})
    wanted = dict(word.split("=", 1) for word in description.split(":")[1:])
    if "name" in wanted:
        descriptor = found.inheritedNamedDescriptors()[wanted["name"]]
    else:
        descriptor = found.inheritedDescriptors()[int(wanted["index"])]
    return Bound(socket.socket(fileno=os.dup(descriptor)), HTTP, shared=True)


def _first_environment() -> dict[str, str]:
    """The environment in which the process was started: Twisted has removed LISTEN_FDS by now."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def _bind_unix(path: str, mode: int) -> socket.socket:
    """A UNIX socket. A file that a dead server has left behind is no obstacle, a living one is."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_behind(path):
            os.unlink(path)
        bound.bind(path)
        os.chmod(path, mode)
    except OSError:
        bound.close()
        raise
    return bound


def _is_left_behind(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
