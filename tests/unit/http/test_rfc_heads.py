"""Probes after the rules for request line, target, Host and fields: RFC 9112 2 to 5, 9110 5 and 7, 3986."""

from __future__ import annotations

import pytest

from tests.unit.http.probes import NEXT, H, Probe, Probes, get, run

PROBES = Probes()
probe = PROBES.add

# RFC 9112 3: the request line
for line in (
    "GET  /stats HTTP/1.1",
    "GET /stats  HTTP/1.1",
    " GET /stats HTTP/1.1",
    "GET\t/stats HTTP/1.1",
    "GET /stats\tHTTP/1.1",
    "GET /stats HTTP/1.1 ",
    "GET /st ats HTTP/1.1",
    "GET /stats",
    "GET",
    "GET /stats HTTP",
    "GET /stats HTTP/",
    "GET /stats HTTP/1",
    "GET /stats HTTP/1.",
    "GET /stats HTTP/.1",
    "GET /stats HTTP/1.1.1",
    "GET /stats HTTP/11.1",
    "GET /stats HTTP/1.10",
    "GET /stats HTTP/a.b",
    "GET /stats http/1.1",
    "GET /stats HTTP /1.1",
    "GET /stats RTSP/1.0",
    "GET /stats ICE/1.0",
    "GET /stats HTTPS/1.1",
    "GET /stats SIP/2.0",
    "/stats HTTP/1.1",
    "GE(T /stats HTTP/1.1",
    "GE:T /stats HTTP/1.1",
    "GET /st\x00ats HTTP/1.1",
    "GET /st\x7fats HTTP/1.1",
    "GET /st\x01ats HTTP/1.1",
):
    probe("9112 3", f"request line {line!r}", f"{line}\r\n{H}\r\n{NEXT}", 400, gone=True)
for version in ("HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"):
    probe("9112 2.3", f"version {version}", f"GET /stats {version}\r\n{H}\r\n{NEXT}", 505, gone=True)
probe("9113 3.4", "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, gone=True)
probe("9110 2.5", "a higher minor version is 1.1", get(version="HTTP/1.2") + NEXT, 200, 200, gone=False)
probe("9110 2.5", "HTTP/1.0 is answered in our own version", "GET /stats HTTP/1.0\r\n\r\n", 200, gone=True)
probe("9112 2.2", "an empty line before the request", "\r\n" + NEXT, 200, gone=False)
probe("9112 2.2", "several of them", "\r\n\r\n\r\n" + NEXT, 200, gone=False)
probe("9112 2.2", "empty lines between requests", NEXT + "\r\n" + NEXT, 200, 200, gone=False)
probe("9112 2.2", "a bare LF ends no line", "GET /stats HTTP/1.1\nHost: x\n\n", 400, gone=True)
probe("9112 2.2", "a bare LF among headers", "GET /stats HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, gone=True)
probe("9112 2.2", "a bare CR in the request line", f"GET /st\rats HTTP/1.1\r\n{H}\r\n", 400, gone=True)
probe("9112 2.2", "a bare CR in a header", get("A: b\rc"), 400, gone=True)
probe(
    "9112 2.2",
    "whitespace before the first header",
    "GET /stats HTTP/1.1\r\n Host: x\r\n\r\n",
    400,
    gone=True,
)
probe(
    "9112 3", "a request line of 8,000 bytes is read", get(target="/stats?a=" + "b" * 7980), 200, gone=False
)
probe("9110 15.5.15", "one that is too long", get(target="/stats?a=" + "b" * 17000) + NEXT, 414, gone=True)
probe("9112 2", "a TLS client hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, gone=True)
probe("9112 2", "rubbish", "\x00\x01\x02\x03", 400, gone=True)

# RFC 9112 3.2: the target and Host
for host in ("", "Host:\r\n", "Host: \r\n", "Host: a b\r\n", "Host: a,b\r\n\tc\r\n", "Host: http://x\r\n"):
    probe("9112 3.2", f"Host as {host!r}", f"GET /stats HTTP/1.1\r\n{host}\r\n{NEXT}", 400, gone=True)
for host in (
    "a/b",
    "a@b",
    "a:b",
    "a:80:80",
    "[::1",
    "::1",
    "[g::1]",
    "a?b",
    "a#b",
    "a\\b",
    "<x>",
    "x:123456",
    "\xe9",
):
    probe("9110 7.2", f"Host {host!r}", get(host=f"Host: {host}\r\n") + NEXT, 400, gone=True)
for host in (
    "x",
    "x:80",
    "x:",
    "127.0.0.1",
    "[::1]",
    "[::1]:8888",
    "a-b.example.",
    "a_b",
    "X.EXAMPLE",
    "%41",
):
    probe("9110 7.2", f"Host {host!r}", get(host=f"Host: {host}\r\n") + NEXT, 200, 200, gone=False)
probe("9112 3.2", "two Hosts", get("Host: x") + NEXT, 400, gone=True)
probe("9112 3.2", "two Hosts, other case", get("hOsT: y") + NEXT, 400, gone=True)
probe("9112 3.2", "HTTP/1.0 needs none", "GET /stats HTTP/1.0\r\n\r\n", 200, gone=True)
probe("9112 3.2", "but an invalid one is one", "GET /stats HTTP/1.0\r\nHost: a b\r\n\r\n", 400, gone=True)
probe("9112 3.2.2", "absolute form", get(target="http://x/stats") + NEXT, 200, 200, gone=False)
probe("9112 3.2.2", "its scheme in capitals", get(target="HTTP://x/stats"), 200, gone=False)
probe("9112 3.2.2", "https", get(target="https://x/stats"), 200, gone=False)
probe("9112 3.2.2", "needs Host all the same", get(target="http://x/stats", host=""), 400, gone=True)
probe("9112 3.2.2", "without a path, with a query", get(target="http://x?channels="), 400, gone=False)
for target in (
    "http:///stats",
    "http://u@x/stats",
    "http://u:p@x/stats",
    "http://:80/stats",
    "http://a b/stats",
    "ftp://x/stats",
    "stats",
    "x:80",
    "http:/stats",
    "//x/stats#a",
    "/stats#a",
    "*a",
    "?a=b",
):
    probe("9112 3.2", f"target {target!r}", get(target=target) + NEXT, 400, gone=True)
probe("3986 6.2.2.2", "a needless percent-encoding", get(target="/%73t%61ts"), 200, gone=False)
probe("3986 6.2.2.2", "in lower case", get(target="/%73%74ats"), 200, gone=False)
probe("3986 2.2", "a reserved character is another path", get(target="/stats%2F"), 404, gone=False)
probe("3986 2.1", "encoded twice is another path", get(target="/%2573tats"), 404, gone=False)
for target in ("/st%", "/st%4", "/st%zz", "/%"):
    probe("3986 2.1", f"path {target!r}", get(target=target) + NEXT, 400, gone=True)
probe("3986 3.4", "a query that is not UTF-8", get(target="/?channels=%ff"), 400, gone=True)
probe("3986 3.3", "another path", get(target="//stats"), 404, gone=False)
probe("3986 3.3", "a path's case counts", get(target="/STATS"), 404, gone=False)

# RFC 9112 5: fields
for name in ("A ", "A\t", "", "A(", "A\x00", "A B", "\xe9", "A\x7f", '"A"', "A/", "A,"):
    probe("9112 5.1", f"header name {name!r}", get(f"{name}: b") + NEXT, 400, gone=True)
for value in ("a\x00b", "a\x01b", "a\x0bb", "a\x1fb", "a\x7fb"):
    probe("9110 5.5", f"header value {value!r}", get(f"A: {value}") + NEXT, 400, gone=True)
for line in (
    "A:b",
    "A:",
    "A: ",
    "A:\tb\t",
    "A: \xe9",
    "A: a\tb",
    "a!#$%&'*+-.^_`|~1: b",
    "A: " + '"' * 9,
    "A: :",
):
    probe("9110 5.5", f"header {line!r}", get(line) + NEXT, 200, 200, gone=False)
probe("9112 5.2", "a folded line", get("A: b", " c") + NEXT, 400, gone=True)
probe("9112 5.2", "folded with a tab", get("A: b", "\tc") + NEXT, 400, gone=True)
probe("9112 5", "a line without a colon", get("no colon") + NEXT, 400, gone=True)
probe("9112 5", "a line of spaces", get(" ") + NEXT, 400, gone=True)
probe("6585 5", "100 headers pass", get(*[f"A{n}: b" for n in range(99)]), 200, gone=False)
probe("6585 5", "101 do not", get(*[f"A{n}: b" for n in range(100)]), 431, gone=True)
probe("6585 5", "a header of 17 kB", get("A: " + "b" * 17000) + NEXT, 431, gone=True)
probe("9110 5.1", "names have no case", "GET /stats HTTP/1.1\r\nhOST: x\r\n\r\n", 200, gone=False)


@pytest.mark.parametrize("each", PROBES, ids=str)
def test_the_answer_is_as_the_rule_says(each: Probe) -> None:
    run(each)
