"""docs/openapi.json says what the server does: paths, methods, fields, statuses and bodies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cyclone_sse.delivery.publication import FIELDS, Publication
from cyclone_sse.server import App
from tests.harness.clients import Response, Subscriber, request
from tests.harness.process import ROOT
from tests.harness.servers import SseServer
from tests.unit.access.keys import SECRET, token

DOCUMENT: Any = json.loads((ROOT / "docs" / "openapi.json").read_text())
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]
OPERATIONS = [(path, method) for path, methods in PATHS.items() for method in methods]
KEY = {"Authorization": "Bearer KEY"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def resolve(value: dict[str, Any]) -> Any:
    """What a ``$ref`` leads to; another value as it is."""
    while "$ref" in value:
        found: Any = DOCUMENT
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        value = found
    return value


def fits(value: object, schema: dict[str, Any]) -> bool:
    """Whether the value is what the schema says."""
    return bool(Draft202012Validator({"components": DOCUMENT["components"], **schema}).is_valid(value))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SseServer]:
    """A server with a key, tokens, and small limits."""
    directory = tmp_path_factory.mktemp("server")
    rules = directory / "channels.toml"
    rules.write_text('["room-*"]\npresence = true\n')
    access = ["--http-secret=KEY", f"--jwt-secret={SECRET}", "--public=a,room-*"]
    with SseServer(
        directory, *access, "--max-body=2000", "--state-bytes=1000", f"--channels={rules}"
    ) as running:
        yield running


def check(method: str, path: str, answer: Response) -> None:
    """AssertionError unless the document has this status, this type and this body for the operation."""
    operation = PATHS[path][method.lower()]
    assert str(answer.status) in operation["responses"], f"{method} {path}: {answer.status} is not documented"
    said = resolve(operation["responses"][str(answer.status)])
    for name in said.get("headers", {}):
        assert name.lower() in answer.headers, f"{method} {path} {answer.status} without {name}"
    if method == "HEAD":
        return
    (kind,) = said["content"]
    assert answer.headers["content-type"].partition(";")[0] == kind
    if kind == "application/json":
        assert fits(answer.json, said["content"][kind]["schema"]), (method, path, answer)


def ask(server: SseServer, method: str, path: str, body: Any = None, **headers: str) -> Response:
    """One request with the key, checked against the document."""
    fields = KEY | {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, str):
        body, fields = json.dumps(body), JSON | fields
    elif body is not None:
        fields = FORM | fields
    if method == "GET" and path.startswith("/?"):
        client = Subscriber(server.url, [], path=path + "&x", headers=headers).wait_open()
        client.close()
        answer = Response(client.status, client.headers, client.body)
    else:
        answer = request(method, server.url + path, body, fields)
    check(method, path.partition("?")[0], answer)
    return answer


def test_the_paths_are_those_of_the_application(tmp_path: Path) -> None:
    rules = tmp_path / "channels.toml"
    rules.write_text("")
    app = App({"http-secret": "KEY", "channels": str(rules)})
    assert {route[0] for route in app.routes()} == set(PATHS)


def test_the_methods_are_those_that_are_allowed(server: SseServer) -> None:
    for path, methods in PATHS.items():
        answer = request("DELETE", server.url + path)
        assert answer.status == 405
        assert set(answer.headers["allow"].lower().split(", ")) == {*methods, "options"}, path


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"]["Publication"]["properties"])
def test_each_field_of_a_publication_is_known(server: SseServer, name: str) -> None:
    example = resolve(DOCUMENT["components"]["schemas"]["Publication"]["properties"][name])["example"]
    publication = {"channel": "a", "message": "x"} | {name: example}
    if name == "channels":
        del publication["channel"]
    assert ask(server, "POST", "/publish", publication).status == 200
    assert fits(publication, {"$ref": "#/components/schemas/Publication"})


def test_no_field_of_a_publication_is_left_out() -> None:
    """The server refuses unknown fields by name: those that it knows stand in one set."""
    assert set(DOCUMENT["components"]["schemas"]["Publication"]["properties"]) == FIELDS


EDGES: dict[str, list[Any]] = {
    "channel": ["a", "", "x" * 255, "x" * 256, ["a", "b"], ["a", ""], [], 1],
    "channels": ["a", ["b"], [], None],
    "message": ["x", "", 0, None, {}, [1.5, "y"], False],
    "event": ["x", "", "x" * 100, "x" * 101, "sse-x", "a\nb", "\0", 7],
    "retry": [0, 3000.0, 3_600_000, 3_600_001, -1, 1.5, True, "1"],
    "key": ["KEY", 1],
    "keep": [True, False, 1],
    "ttl": [0, 0.5, 315_360_000, 315_360_001, -1, True, "1"],
    "except": ["x", "", "x" * 64, "x" * 65],
    "idempotency_key": ["x", "", "~" * 200, "~" * 201, "a b", "\xe4"],
    "unknown": ["x"],
}


@pytest.mark.parametrize("name", EDGES)
def test_a_publication_that_the_document_allows_is_accepted(name: str) -> None:
    allowed = []
    for value in EDGES[name]:
        publication = {"channel": "a", "message": "x", name: value}
        if name == "channels":
            del publication["channel"]
        if fits(publication, {"$ref": "#/components/schemas/Publication"}):
            Publication.from_json(publication)
            allowed.append(value)
    assert 0 < len(allowed) < len(EDGES[name]) or name == "unknown", "some are allowed, and some are not"


@pytest.mark.parametrize("name", [resolve(field)["name"] for field in PATHS["/"]["get"]["parameters"]])
def test_each_parameter_of_a_subscription_is_known(server: SseServer, name: str) -> None:
    """Each one changes the answer, or is read: a wrong value of those with few is nothing here."""
    source = "\n".join(path.read_text() for path in (ROOT / "cyclone_sse").rglob("*.py"))
    spellings = {name, name.title(), name.replace("ID", "Id")}
    assert any(f'"{spelling}"' in source for spelling in spellings), name


def cases() -> list[tuple[str, str, Any, dict[str, str], int]]:
    """Method, path, body, headers and the status that they get."""
    wrong = {"Authorization": "Bearer wrong"}
    # Made at collection: without this it expires before the test runs.
    tomorrow = int(time.time()) + 86400
    weak = {"Authorization": f"Bearer {token(publish=['a'], exp=tomorrow)}"}
    orders = ["/disconnect", *(path for path in ("/clear",) if path in PATHS)]
    found: list[tuple[str, str, Any, dict[str, str], int]] = [
        ("GET", "/?channels=a", None, {}, 200),
        ("GET", "/?channels=", None, {}, 400),
        ("GET", "/?channels=private", None, wrong, 401),
        ("GET", "/?channels=private", None, weak, 403),
        ("GET", "/stats", None, {}, 200),
        ("GET", "/stats?" + "&" * 2000, None, {}, 400),
        ("GET", "/stats?channel=a&prefix=b", None, {}, 200),
        ("HEAD", "/stats", None, {}, 200),
        ("HEAD", "/?channels=a", None, {}, 200),
        ("POST", "/publish", "channel=a&message=x", {}, 200),
        ("POST", "/publish", "channel=a&message=x&idempotency_key=form", {}, 200),
        ("POST", "/publish", "channel=a", {}, 400),
        ("POST", "/publish", {"channel": "a", "message": "x"}, {}, 200),
        ("POST", "/publish", [{"channel": "a", "message": "x"}], {}, 200),
        ("POST", "/publish", {"channel": "a", "message": "x", "unknown": 1}, {}, 400),
        ("POST", "/publish", {"channel": "a", "message": "x"}, wrong, 401),
        ("POST", "/publish", {"channel": "b", "message": "x"}, weak, 403),
        ("POST", "/publish", {"channel": "a", "message": "x" * 3000}, {}, 413),
        ("POST", "/publish", "x", {"Content-Type": "text/plain"}, 415),
    ]
    for path in orders:
        found += [
            ("POST", path, {"channel": ["a"]}, {}, 200),
            ("POST", path, "channel=a", {}, 200),
            ("POST", path, {}, {}, 400),
            ("POST", path, {"channel": "a"}, wrong, 401),
            ("POST", path, {"channel": "a"}, weak, 403),
            ("POST", path, "x", {"Content-Type": "text/plain"}, 415),
        ]
    if "/state" in PATHS:
        found += [("GET", "/state?channel=a", None, {}, 200), ("GET", "/state", None, {}, 400)]
        found += [
            ("GET", "/state?channel=private", None, wrong, 401),
            ("GET", "/state?channel=private", None, weak, 403),
            ("HEAD", "/state?channel=a", None, {}, 200),
            ("POST", "/publish", {"channel": "a", "message": "x" * 1500, "keep": True}, {}, 507),
        ]
    if "/presence" in PATHS:
        found += [("GET", "/presence?channel=room-1", None, {}, 200), ("GET", "/presence", None, {}, 400)]
        found += [
            ("GET", "/presence?channel=a", None, {}, 404),
            ("HEAD", "/presence?channel=room-1", None, {}, 200),
        ]
    return found


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), cases())
def test_answers_are_as_documented(  # noqa: PLR0917
    server: SseServer, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    assert ask(server, method, path, body, **headers).status == status


WAYS: dict[str, tuple[dict[str, str], str]] = {
    "key": (KEY, ""),
    "token": ({"Authorization": f"Bearer {token(subscribe=['secret'])}"}, ""),
    "cookie": ({"Cookie": f"cyclone_sse_token={token(subscribe=['secret'])}"}, ""),
    "query": ({}, f"&access_token={token(subscribe=['secret'])}"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/", "/state", "/presence"])
def test_the_ways_to_a_private_channel_are_those_of_the_document(
    server: SseServer, path: str, way: str
) -> None:
    headers, query = WAYS[way]
    answer = request("HEAD", f"{server.url}{path}?channel=secret{query}", headers=headers)
    for method, operation in PATHS[path].items():
        assert ({way: []} in operation["security"]) == (answer.status != 401), method


def test_each_operation_is_tried() -> None:
    tried = {(path.partition("?")[0], method.lower()) for method, path, _, _, _ in cases()}
    assert tried == set(OPERATIONS)
