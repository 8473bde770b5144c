"""What a probe is: some bytes, the rule that they are about, and the answer that must follow.

Each is sent at once and byte by byte, and must be answered alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.unit.http.peer import Peer, parse


@dataclass(frozen=True)
class Probe:
    """section: of which RFC; what: the rule. statuses: of all responses. gone: the connection ends, or does
    not; None: either. headers: those of the last response; None: not there."""

    section: str
    what: str
    data: bytes
    statuses: tuple[int, ...]
    gone: bool | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.section}: {self.what}"


class Probes(list[Probe]):
    """A table of them."""

    def add(
        self,
        section: str,
        what: str,
        data: str,
        *statuses: int,
        gone: bool | None = None,
        **headers: str | None,
    ) -> None:
        """One more; a header's name is written with an underscore."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.append(Probe(section, what, data.encode("latin-1"), statuses, gone, named))


H = "Host: x\r\n"
GET = f"GET /stats HTTP/1.1\r\n{H}"
POST = f"POST /publish HTTP/1.1\r\n{H}Content-Type: application/x-www-form-urlencoded\r\n"
BODY = "channel=a&message=b"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = "13\r\nchannel=a&message=b\r\n0\r\n\r\n"
NEXT = f"{GET}\r\n"  # a second request: answered when the connection stays, ignored when it does not


def get(
    *lines: str, target: str = "/stats", method: str = "GET", version: str = "HTTP/1.1", host: str = H
) -> str:
    return f"{method} {target} {version}\r\n{host}" + "".join(f"{line}\r\n" for line in lines) + "\r\n"


def run(probe: Probe) -> None:
    """Send it, at once and in pieces, and check the answer."""
    for step in (len(probe.data), 1, 7):
        peer = Peer()
        for start in range(0, len(probe.data), step):
            peer.send(probe.data[start : start + step])
        responses = parse(peer.transport.value())
        assert tuple(response.status for response in responses) == probe.statuses
        assert probe.gone in (None, peer.gone)
        for name, value in probe.headers.items():
            assert responses[-1].headers.get(name.lower()) == value
        for response in responses:
            check(response.status, response.headers, response.body)


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """What is true of every response."""
    if status == 100:
        return
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])  # 9110 6.6.1
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["access-control-allow-origin"] == "*"
    assert "transfer-encoding" not in headers
    if status >= 400:
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        assert json.loads(body.decode("utf-8"))["status"] == "error"
    if status == 405:
        assert headers["allow"]  # 9110 15.5.6
    if status == 401:
        assert headers["www-authenticate"]  # 9110 15.5.2
