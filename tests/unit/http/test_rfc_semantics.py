"""Probes after the rules for methods, connections, content and conditions: RFC 9110, 9112 9, Fetch."""

from __future__ import annotations

import pytest

from tests.unit.http.peer import Peer, parse
from tests.unit.http.probes import BODY, NEXT, POST, Probe, Probes, get, run

PROBES = Probes()
probe = PROBES.add

# RFC 9110 9: methods
probe("9110 9.1", "unknown method", get(method="BREW"), 405, gone=False, Allow="GET, HEAD, OPTIONS")
probe("9110 9.1", "unknown method on an unknown path", get(method="BREW", target="/no") + NEXT, 404, 200)
probe("9110 9.1", "unknown method without Host", get(method="BREW", host=""), 400, gone=True)
probe("9110 9.1", "methods are case-sensitive", get(method="get") + NEXT, 405, 200)
probe("9110 9.1", "a long method", get(method="A" * 200), 405)
probe(
    "9110 9.1",
    "unknown method with a body",
    get("Content-Length: 3", method="BREW") + "abc" + NEXT,
    405,
    gone=True,
)
for method in ("PUT", "DELETE", "PATCH"):
    probe("9110 15.5.6", method, get(method=method) + NEXT, 405, 200, gone=False)
    probe(
        "9110 15.5.6", f"{method} with a body", get("Content-Length: 1", method=method) + "a", 405, gone=True
    )
probe("9110 9.3.8", "TRACE is not answered with the request", get(method="TRACE"), 405)
probe("9110 9.3.6", "CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501, gone=True)
probe("9110 9.3.6", "CONNECT with a path", get(method="CONNECT"), 501, gone=True)
probe("9110 9.3.3", "POST where nothing is taken", get("Content-Length: 0", method="POST") + NEXT, 405, 200)
probe(
    "9110 9.3.1",
    "GET with a body",
    get("Content-Length: 3") + "abc" + NEXT,
    200,
    gone=True,
    Connection="close",
)
probe("9110 9.3.1", "GET with an empty body", get("Content-Length: 0") + NEXT, 200, 200, gone=False)
probe("9110 9.3.7", "OPTIONS", get(method="OPTIONS") + NEXT, 204, 200, gone=False)
probe(
    "9110 9.3.7",
    "OPTIONS *",
    get(method="OPTIONS", target="*"),
    204,
    gone=False,
    Allow="GET, HEAD, POST, OPTIONS",
)
probe(
    "9112 3.2.4",
    "OPTIONS * in absolute form",
    get(method="OPTIONS", target="http://x"),
    204,
    Allow="GET, HEAD, POST, OPTIONS",
)
probe(
    "9110 8.6",
    "204 has no Content-Length",
    get(method="OPTIONS"),
    204,
    Content_Length=None,
    Content_Type=None,
)
probe("9112 3.2.4", "GET *", get(target="*"), 400, gone=True)

# RFC 9110 10.1.1: Expect
probe(
    "9110 10.1.1",
    "100 Continue",
    f"{POST}Expect: 100-continue\r\nContent-Length: 19\r\n\r\n",
    100,
    gone=False,
)
probe(
    "9110 10.1.1", "in any case", f"{POST}Expect: 100-Continue\r\nContent-Length: 19\r\n\r\n", 100, gone=False
)
probe(
    "9110 10.1.1",
    "chunks",
    f"{POST}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    100,
    gone=False,
)
probe("9110 10.1.1", "no body, nothing to wait for", get("Expect: 100-continue") + NEXT, 200, 200, gone=False)
probe(
    "9110 10.1.1",
    "HTTP/1.0 knows none",
    f"{POST}Expect: 100-continue\r\nContent-Length: 19\r\n\r\n".replace("1.1", "1.0"),
    gone=False,
)
probe("9110 10.1.1", "another expectation", get("Expect: a-miracle") + NEXT, 417, gone=True)
probe(
    "9110 10.1.1",
    "a body too large",
    f"{POST}Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
    413,
    gone=True,
)
probe(
    "9110 10.1.1",
    "a body for a method without a handler",
    get("Expect: 100-continue", "Content-Length: 3", method="PUT"),
    405,
    gone=True,
)
probe(
    "9110 10.1.1",
    "a path that is none",
    get("Expect: 100-continue", "Content-Length: 3", method="POST", target="/no"),
    404,
    gone=True,
)

# RFC 9112 9: the connection
probe("9112 9.6", "close", get("Connection: close") + NEXT, 200, gone=True, Connection="close")
probe("9112 9.6", "Close", get("Connection: Close") + NEXT, 200, gone=True)
probe("9110 7.6.1", "in a list", get("Connection: x, close") + NEXT, 200, gone=True)
probe("9110 7.6.1", "in a second header", get("Connection: x", "Connection: close") + NEXT, 200, gone=True)
probe("9110 7.6.1", "other options", get("Connection: x, , TE") + NEXT, 200, 200, gone=False)
probe("9112 9.3", "HTTP/1.1 persists", NEXT + NEXT + NEXT, 200, 200, 200, gone=False, Connection=None)
probe("9112 9.3", "HTTP/1.0 does not", get(version="HTTP/1.0") + NEXT, 200, gone=True, Connection="close")
probe(
    "9112 9.3", "unless asked", get("Connection: keep-alive", version="HTTP/1.0") + NEXT, 200, 200, gone=False
)
probe(
    "9112 C.2.2",
    "and then it is told",
    get("Connection: Keep-Alive", version="HTTP/1.0"),
    200,
    gone=False,
    Connection="keep-alive",
)
probe("9112 9.3", "close wins", get("Connection: keep-alive, close") + NEXT, 200, gone=True)
probe(
    "9112 9.3.2",
    "answers in order",
    get(target="/no") + NEXT + get(target="/") + NEXT,
    404,
    200,
    400,
    200,
    gone=False,
)
probe("9112 9.3.2", "a refusal after answers", NEXT + get("A : b") + NEXT, 200, 400, gone=True)
probe(
    "9110 7.8",
    "an upgrade is not granted",
    get("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAM") + NEXT,
    200,
    200,
    gone=False,
)
probe(
    "9110 7.8",
    "nor to a websocket",
    get("Upgrade: websocket", "Connection: Upgrade") + NEXT,
    200,
    200,
    gone=False,
)
probe(
    "9110 7.8",
    "nor with a body",
    f"{POST}Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 19\r\n\r\n{BODY}{NEXT}",
    200,
    200,
    gone=False,
)

# RFC 9110 8: content
probe(
    "9110 8.3.1",
    "media types have no case",
    f"{POST}Content-Length: 19\r\n\r\n{BODY}".replace("application/x-www", "Application/X-WWW"),
    200,
)
probe(
    "9110 8.3.1",
    "parameters are none of them",
    f"{POST}Content-Length: 19\r\n\r\n{BODY}".replace("urlencoded", "urlencoded ; charset=UTF-8"),
    200,
)
probe(
    "9110 8.3",
    "two Content-Types",
    f"{POST}Content-Type: application/json\r\nContent-Length: 19\r\n\r\n{BODY}",
    400,
    gone=True,
)
probe("9110 11.6.2", "two Authorizations", get("Authorization: a", "Authorization: b"), 400, gone=True)
probe("9110 5.3", "two Idempotency-Keys", get("Idempotency-Key: a", "Idempotency-Key: b"), 400, gone=True)
probe("9110 14.2", "ranges may be ignored", get("Range: bytes=0-0"), 200, Content_Range=None)
probe(
    "9110 12.5",
    "what is preferred may be ignored",
    get("Accept: image/png", "Accept-Encoding: gzip", "Accept-Language: eo"),
    200,
)

# RFC 9110 13: conditions
JS = "/media/demo.js"
probe(
    "9110 8.8",
    "a file has a date and a tag",
    get(target=JS),
    200,
    Content_Type="text/javascript; charset=utf-8",
)
probe("9110 13.1.2", "If-None-Match *", get("If-None-Match: *", target=JS) + NEXT, 304, 200, gone=False)
probe("9110 13.1.2", "another tag", get('If-None-Match: "a", W/"b"', target=JS), 200)
probe(
    "9110 13.1.3",
    "a date to come",
    get("If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT", target=JS),
    304,
    Content_Length=None,
)
probe(
    "9110 13.1.3", "a date that was", get("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", target=JS), 200
)
probe("9110 13.1.3", "not a date", get("If-Modified-Since: yesterday", target=JS), 200)
probe(
    "9110 13.2.2",
    "a tag counts more than a date",
    get('If-None-Match: "a"', "If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT", target=JS),
    200,
)
probe("9110 13.1.1", "If-Match that does not", get('If-Match: "a"', target=JS), 412)
probe(
    "9110 13.1.4",
    "If-Unmodified-Since",
    get("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", target=JS),
    412,
)
probe("9110 13.1.1", "If-Match *", get("If-Match: *", target=JS), 200)
for path in (
    "/media/",
    "/media/../setup.py",
    "/media/..%2fsetup.py",
    "/media/%2e%2e/setup.py",
    "/media/a%00b",
    "/media//etc/passwd",
    "/media/no.js",
):
    probe("3986 3.3", path, get(target=path), 404, gone=False)
probe(
    "CSP 3",
    "the page may run its own scripts only",
    get(target="/demo"),
    200,
    Content_Type="text/html; charset=utf-8",
)

# Fetch: CORS
probe(
    "Fetch 3.2",
    "a preflight",
    get("Origin: http://a", "Access-Control-Request-Method: GET", method="OPTIONS"),
    204,
    Access_Control_Allow_Origin="*",
    Access_Control_Allow_Methods="GET, HEAD, OPTIONS",
)
probe(
    "Fetch 3.2",
    "no preflight",
    get("Origin: http://a", method="OPTIONS"),
    204,
    Access_Control_Allow_Methods=None,
    Access_Control_Max_Age=None,
)
probe("9110 15.5.5", "no path", get(target="/no"), 404, gone=False, Cache_Control="no-store")


@pytest.mark.parametrize("each", PROBES, ids=str)
def test_the_answer_is_as_the_rule_says(each: Probe) -> None:
    run(each)


@pytest.mark.parametrize("target", ["/stats", "/", "/?channels=a", "/no", "/demo", "/media/demo.js"])
def test_head_has_the_headers_of_get(target: str) -> None:
    """RFC 9110 9.3.2."""

    def answered(method: str) -> dict[str, str]:
        peer = Peer()
        peer.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        (response,) = parse(peer.transport.value(), method == "HEAD")
        del response.headers["date"]  # the second may have changed in between
        return {"status": str(response.status), **response.headers}

    given, expected = answered("HEAD"), answered("GET")
    # The moment each was asked; both say it.
    assert ("last-event-id" in given) == ("last-event-id" in expected)
    given.pop("last-event-id", None)
    expected.pop("last-event-id", None)
    assert given == expected
