"""The sockets to listen on, which are made from the options and bound, but do not listen yet.

All errors are found before anything is served, while the process may still have the rights that a low port
needs. ``--endpoint`` is parsed by Twisted; a replacement for Twisted's reactor keeps the sockets, so that all
of them listen in the same way.

Knows sockets and options; nothing of the services on them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.python.systemd import ListenFDs

from cyclone_sse.daemon.proxy_protocol import is_proxied
from cyclone_sse.values import Address

HTTP, HTTPS, ADMIN = "http", "https", "admin"
PROXIED = "proxied"  # HTTP, after a header of the PROXY protocol

MAX_PORT = 65535

Owner = tuple[int, int]  # user, group

_ANY_ADDRESS = {"0.0.0.0", "::"}
# Of several addresses that one name has, these may be missing on this machine.
_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that is bound.

    serves: HTTP, HTTPS, PROXIED or ADMIN. factory: makes its connections if another endpoint wraps ours.
    shared: other processes have this very socket. inode: of the file of a UNIX socket that is ours.
    """

    socket: socket.socket
    serves: str
    factory: Any = None
    shared: bool = False
    inode: int | None = None

    @property
    def address(self) -> Address | None:
        """Host and port; None for a UNIX socket."""
        if self.socket.family == socket.AF_UNIX:
            return None
        host, port, *_ = self.socket.getsockname()
        return host, port

    @property
    def url(self) -> str:
        """The URL under which it can be reached."""
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return socket_url(os.fsdecode(name))
        return port_url(self.serves, name[0], name[1])

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, unless another server has replaced it."""
        if self.inode is not None:
            path = self.socket.getsockname()
            with suppress(OSError):
                if os.stat(path).st_ino == self.inode:
                    os.unlink(path)


class AddressInUse(ValueError):
    """The address is in use, by another program or by this one."""


def port_url(serves: str, host: str, port: int) -> str:
    """The URL of a port. serves: as in Bound."""
    scheme = HTTPS if serves == HTTPS else HTTP
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def socket_url(path: str) -> str:
    """The URL of a UNIX socket, as nginx writes it."""
    return f"http://unix:{path}:/"


def open_sockets(
    settings: Mapping[str, Any],
    factory: Any,
    reactor: Any,
    share: bool = False,
    owner: Owner | None = None,
) -> list[Bound]:
    """Bind all sockets that these options name.

    factory: makes the connections of the public ports. share: this process binds each port several times.
    owner: of the files of UNIX sockets, None for the user of this process. Raises ValueError with one line,
    and leaves no socket open in that case.
    """
    if share and not settings["reuse-port"]:
        _refuse_second_start(settings)
    share = share or settings["reuse-port"]
    bound: list[Bound] = []
    try:
        for description in settings["endpoint"]:
            bound += _endpoint(description, _Reactor(reactor, factory or Factory(), share, owner))
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


def _refuse_second_start(settings: Mapping[str, Any]) -> None:
    """Raise AddressInUse if another server listens on one of the ports.

    Without this, a server with workers that is started twice by mistake would share its ports with the first
    one (SO_REUSEPORT), and each would accept half of the connections.
    """
    ports = [(settings["listen"], settings["port"])] if not settings["endpoint"] else []
    if settings["use-ssl"]:
        ports.append((settings["ssl-listen"], settings["ssl-port"]))
    for host, port in ports:
        if port:
            _close(bind(host, port))


def duplicate(bound: Bound, number: int) -> Bound:
    """Bind one more socket like this one, for the next process that shares its port.

    A UNIX socket, and one that systemd made, cannot be bound twice: all processes share it. The admin port
    is not shared: the next process has one that is higher by its number. Raises ValueError.
    """
    if bound.shared or bound.socket.family == socket.AF_UNIX:
        return replace(bound, socket=bound.socket.dup(), inode=None)
    host, port, *rest = bound.socket.getsockname()
    if bound.serves == ADMIN:
        return replace(bound, socket=bind(host, port + number)[0])
    try:
        return replace(bound, socket=_bind(bound.socket.family, (host, port, *rest), True))
    except OSError as error:
        raise _failure(f"cannot listen on {host}:{port}", error) from None


def refuse_same_ports(bound: Iterable[Bound]) -> None:
    """Raise AddressInUse if the admin port of a worker is also a port for clients.

    Without this, one of the workers would never start: two sockets of one address can be bound, and only one
    can listen.
    """
    for admin, other in product(list(bound), repeat=2):
        if admin.serves == ADMIN and other.serves != ADMIN and is_same_port(admin.address, other.address):
            raise AddressInUse(f"each worker has an admin port: {admin.url} is also {other.url}")


def is_same_port(one: Address | None, other: Address | None) -> bool:
    """Whether only one of two sockets with these addresses can listen. None: that of a UNIX socket."""
    if one is None or other is None or one[1] != other[1]:
        return False
    return one[0] == other[0] or not _ANY_ADDRESS.isdisjoint((one[0], other[0]))


def _failure(what: str, error: OSError) -> ValueError:
    kind = AddressInUse if error.errno == errno.EADDRINUSE else ValueError
    return kind(f"{what}: {error.strerror}")


def bind(host: str, port: int, share: bool = False) -> list[socket.socket]:
    """Bind this port on all addresses of a host: localhost is 127.0.0.1 and ::1.

    host: a name or an address, an IPv6 one with or without brackets. Raises ValueError.
    """
    where = f"{host}:{port}"
    if port > MAX_PORT:  # as one of several admin ports may be: the system would take another port instead
        raise ValueError(f"cannot listen on {where}: the highest port is {MAX_PORT}")
    if host.strip("[]") in ("", "*"):  # both 0.0.0.0 and ::, of which the second would find its port in use
        raise ValueError(f"cannot listen on {where}: write 0.0.0.0, or :: for IPv6 and IPv4")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
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
        raise _failure(f"cannot listen on {where}", failure) from None
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
    """A reactor for Twisted's endpoints that binds their sockets and keeps them. factory: theirs."""

    def __init__(self, reactor: Any, factory: Any, share: bool, owner: Owner | None) -> None:
        self._reactor = reactor
        self.factory = factory
        self._share = share
        self._owner = owner
        self.bound: list[Bound] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 0, interface: str = "") -> None:
        found = bind(interface or "0.0.0.0", port, self._share)
        self.bound += [self._bound(each, factory) for each in found]

    def listenUNIX(
        self, path: str, factory: Any, backlog: int = 0, mode: int = 0o666, wantPID: bool = False
    ) -> None:
        try:
            made = _bind_unix(path, mode, self._owner)
            self.bound.append(replace(self._bound(made, factory), inode=os.stat(path).st_ino))
        except OSError as error:
            raise _failure("cannot listen", error) from None

    def _bound(self, sock: socket.socket, factory: Any) -> Bound:
        """The socket of an endpoint. factory: the one that the endpoint was given, or what wraps it."""
        if is_proxied(factory) and factory.wrappedFactory is self.factory:
            return Bound(sock, PROXIED)
        return Bound(sock, HTTP, None if factory is self.factory else factory)

    def listenSSL(self, *_: object, **__: object) -> None:
        raise ValueError("use --use-ssl and --ssl-port for TLS")


def _endpoint(description: str, keeper: _Reactor) -> list[Bound]:
    failures: list[Any] = []
    try:
        if description.startswith("systemd:"):
            return [_systemd_socket(description)]
        endpoint = serverFromString(keeper, description)
        listening: Deferred[Any] = endpoint.listen(keeper.factory)
    except Exception as error:
        # Twisted's parsers, and those of its plugins, raise exceptions of any kind.
        raise ValueError(f"--endpoint={description}: {error or type(error).__name__}") from None
    listening.addErrback(failures.append)
    if failures:
        reason = failures[0].value
        kind = AddressInUse if isinstance(reason, AddressInUse) else ValueError
        raise kind(f"--endpoint={description}: {reason}") from None
    return keeper.bound


def _systemd_socket(description: str) -> Bound:
    try:
        return _inherited(description, _first_environment())
    except LookupError:
        raise ValueError("systemd has passed no such socket") from None


def _inherited(description: str, environment: Mapping[str, str]) -> Bound:
    """Find the socket of systemd that ``systemd:domain=INET:index=0``, or ``name=``, describes.

    Twisted's own parser finds no sockets without names, and systemd-socket-activate gives them names only
    on request. Raises LookupError.
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
    """Read the environment in which the process was started: Twisted has already removed LISTEN_FDS."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def _bind_unix(path: str, mode: int, owner: Owner | None) -> socket.socket:
    """Bind a UNIX socket; the file of a server that has died is replaced, that of a running one is not."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if is_left_behind(path):
            os.unlink(path)
        bound.bind(path)
        os.chmod(path, mode)
        if owner is not None and os.geteuid() == 0:
            # Without this, the server that becomes --uid owns a socket that is root's.
            os.chown(path, *owner)
    except OSError:
        bound.close()
        raise
    return bound


def is_left_behind(path: str) -> bool:
    """Whether this path is a UNIX socket on which no program listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
