"""The demo page and its scripts, from memory.

No file is opened for a request, so that the page works even without a free descriptor, and no path can lead
to another file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from cyclone.escape import url_unescape

from cyclone_sse.errors import Refusal
from cyclone_sse.http.handler import JsonHandler
from cyclone_sse.http.headers import Headers

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# Only what this server itself sends. The page may be used with other servers, so streams may come from any.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src *; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')  # RFC 9110 8.8.3


@dataclass(frozen=True, slots=True)
class File:
    """A file in memory. tag: its ETag. modified: seconds since the epoch."""

    type: str
    content: bytes
    tag: str
    modified: int


def load(directory: Path) -> dict[str, File]:
    """The files for browsers of a directory, by their names."""
    files = {}
    for path in directory.iterdir():
        if path.suffix in _TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            files[path.name] = File(_TYPES[path.suffix], content, tag, int(path.stat().st_mtime))
    return files


class MediaHandler(JsonHandler):
    """Sends these files; ``/demo`` is the page."""

    def initialize(self, files: Mapping[str, File]) -> None:
        """files: by name."""
        self._files = files

    def get(self, name: str) -> None:
        """Send the file, or answer that the client's own copy is still current."""
        file = self._files.get("demo.html" if name == "demo" else url_unescape(name))
        if file is None:
            raise Refusal(404, "Not Found")
        status = precondition(self.request.headers, file)
        if status == 412:
            raise Refusal(412, "the file has changed")
        self.set_header("Content-Type", file.type)
        self.set_header("Cache-Control", "no-cache")
        self.set_header("ETag", file.tag)
        self.set_header("Last-Modified", formatdate(file.modified, usegmt=True))
        if file.type.startswith("text/html"):
            self.set_header("Content-Security-Policy", POLICY)
        if status == 304:
            self.set_status(304)
            self.finish()
        else:
            self.finish(file.content)

    head = get


def precondition(headers: Headers, file: File) -> int:
    """The status to which the conditions of a request lead (RFC 9110 13.2.2): 200, 304 or 412. Malformed
    dates are ignored (13.1.3), and so are ranges: a server need not know them (14.2)."""
    match = headers.get("If-Match")
    if match is not None:
        tags = [tag.strip(" \t") for tag in match.split(",")]
        if match != "*" and file.tag not in tags:
            return 412
    else:
        unmodified = _time(headers.get("If-Unmodified-Since"))
        if unmodified is not None and file.modified > unmodified:
            return 412
    none_match = headers.get("If-None-Match")
    if none_match is not None:
        return 304 if none_match == "*" or file.tag in _ENTITY_TAG.findall(none_match) else 200
    since = _time(headers.get("If-Modified-Since"))
    return 304 if since is not None and file.modified <= since else 200


def _time(date: str | None) -> float | None:
    if date is None or "," in date.partition("GMT")[2]:
        return None
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
