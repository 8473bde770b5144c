"""cyclone's request object, made from the parsed request, and the search for its handler."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote_plus

from cyclone.httpserver import HTTPRequest
from cyclone.httputil import HTTPFile
from twisted.internet.interfaces import ISSLTransport

from cyclone_sse.http.forms import (
    MULTIPART,
    URLENCODED,
    Fields,
    read_multipart,
    read_url_encoded,
    url_encoded,
)
from cyclone_sse.http.forwarded import Proxies
from cyclone_sse.http.request_reader import RequestHead
from cyclone_sse.slices import finish

_NO_CONTENT: tuple[Fields, dict[str, list[HTTPFile]]] = {}, {}
_TOKEN = "access_token"  # RFC 6750 2.3


class Routed(Protocol):
    """The parts of a request that determine its handler."""

    method: str
    host: str
    path: str


class Request(HTTPRequest):  # type: ignore[misc]
    """cyclone's request, made from the parsed request. cyclone's own constructor would decode the query
    again, and replace bytes that are not UTF-8.

    parameters: the fields of the query, by name. access_token: the query's parameter of this name; ``uri``
    and ``query`` do not contain it, since applications log these. Raises Refusal if the query is malformed.
    """

    # On the class: most requests never change them.
    access_token: str | None = None
    _address: str | None = None  # see `remote_ip`

    def __init__(self, connection: Any, head: RequestHead, body: bytes) -> None:
        self.connection = connection
        self.method = head.method
        self.headers = head.headers.copy()  # a handler may change them, and the parameters
        self.version = "HTTP/1.1" if head.minor else "HTTP/1.0"
        self.host, self.path, self.query = head.host, head.path, head.query
        self.parameters: Fields = {}
        if self.query:
            if not head.parameters:  # else another request with this head has filled them in
                head.parameters.update(url_encoded(self.query.encode("latin-1")))
            self.parameters = {name: values[:] for name, values in head.parameters.items()}
            if _TOKEN in self.parameters:
                self.access_token = self.parameters[_TOKEN][-1]
                self.query = _without_token(self.query)
        self.body = body
        self.media_type = head.media_type if body else ""
        if not body:
            # What most requests are: these need not be worked out from a body then.
            self.arguments, self._content = self.parameters, _NO_CONTENT
        self._start_time = time.time()
        self._finish_time = None

    @cached_property
    def uri(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __repr__(self) -> str:
        """Return only what may be logged; cyclone's own has all headers, and so cookies and keys."""
        return f"{type(self).__name__}({self.method} {self.uri} from {self.remote_ip})"

    @cached_property
    def arguments(self) -> Fields:
        """The fields of the query and of a form, by name. Raises Refusal if the form is malformed."""
        parameters, form = self.parameters, self.form
        if not (parameters and form):
            return parameters or form
        return {name: parameters.get(name, []) + form.get(name, []) for name in {**parameters, **form}}

    @cached_property
    def form(self) -> Fields:
        """The fields of a form, without those of the query. Raises Refusal if the form is malformed."""
        return self._content[0]

    @property
    def files(self) -> dict[str, list[HTTPFile]]:
        """The files of a form. Raises Refusal if the form is malformed."""
        return self._content[1]

    @cached_property
    def _content(self) -> tuple[Fields, dict[str, list[HTTPFile]]]:
        return finish(self._read_content())

    def read_form(self) -> Iterator[None]:
        """Read the form of a long body in slices, into ``form``. Raises Refusal."""
        self._content = yield from self._read_content()

    def _read_content(self) -> Generator[None, None, tuple[Fields, dict[str, list[HTTPFile]]]]:
        if self.body and self.method in ("POST", "PUT", "PATCH"):
            kind = self.media_type
            if kind == URLENCODED:
                fields = yield from read_url_encoded(self.body)
                return fields, {}
            if kind == MULTIPART:
                return (yield from read_multipart(self.headers.exact("Content-Type"), self.body))
        return {}, {}

    @property
    def remote_ip(self) -> str:
        """The client's address: the peer's, unless a trusted proxy sends another."""
        if self._address is None:  # the lock of a cached_property in Python 3.11 would cost each client 1 us
            self._address = self._proxies.client_address(self.headers, self.connection._remote_ip)
        return self._address

    @remote_ip.setter
    def remote_ip(self, address: str) -> None:  # cyclone's is an attribute, which applications may set
        self._address = address

    @property
    def public_host(self) -> str:
        """Host and port in the URL that the client used; a trusted proxy may have sent them."""
        return self._proxies.public_host(self.headers, self.connection._remote_ip)

    @property
    def is_host_proxied(self) -> bool:
        """Whether a trusted proxy has sent ``public_host``."""
        return "X-Forwarded-Host" in self.headers and self._proxies.trusts(self.connection._remote_ip)

    @property
    def public_scheme(self) -> str:
        """``http`` or ``https`` in that URL, likewise."""
        peer = self.connection._remote_ip
        return self._proxies.public_scheme(self.headers, peer, self.protocol)

    @property
    def _proxies(self) -> Proxies:
        proxies: Proxies = self.connection.server.proxies
        return proxies

    @cached_property
    def protocol(self) -> str:
        """``http`` or ``https``."""
        return "https" if ISSLTransport.providedBy(self.connection.transport) else "http"


_FIXED_PATH = re.compile(r"[\w/-]+")  # no character with a meaning in a pattern


def fixed_routes(handlers: Sequence[tuple[re.Pattern[str], Sequence[Any]]]) -> dict[str, Any]:
    """The routes of an application that are one path each, by their paths; none where hosts differ.

    handlers: the patterns of hosts, and the routes of each.
    """
    if len(handlers) != 1:
        return {}
    specs = handlers[0][1]
    paths = [spec.regex.pattern.removesuffix("$") for spec in specs]
    found = {}
    for path in paths:
        if _FIXED_PATH.fullmatch(path):
            first = next(spec for spec in specs if spec.regex.match(path))
            if not first.regex.groups:
                found[path] = first
    return found


def handler_for(application: Any, request: Routed) -> Any:
    """The handler's class, as the application itself will find it; None if there is none."""
    fixed = getattr(application, "fixed_routes", {}).get(request.path)
    if fixed is not None:
        return fixed.handler_class
    for spec in application._get_host_handlers(request):
        if spec.regex.match(request.path):
            return spec.handler_class
    return None


def takes_body(application: Any, request: Routed) -> bool:
    """Whether the handler reads a body: this server's name the methods, others may read any body."""
    handler = handler_for(application, request)
    if handler is None:
        return False
    methods = getattr(handler, "body_methods", None)
    return methods is None or request.method in methods


def _without_token(query: str) -> str:
    """The query without the parameter, even if its name is percent-encoded."""
    return "&".join(pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != _TOKEN)
