"""Every private name of cyclone that this server relies on, and what for: the table is right and complete."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from cyclone.httpserver import HTTPConnection, HTTPRequest
from cyclone.httputil import HTTPHeaders
from cyclone.web import Application, RequestHandler

import cyclone_sse

# cyclone 1.3 has no public way to do these things.
PRIVATE: Mapping[type, Mapping[str, str]] = {
    Application: {
        "_get_host_handlers": "which handler a request is for, before its body is read",
    },
    HTTPConnection: {
        "_finish_callback": "whom to tell that a request is over",
        "_remote_ip": "the peer's address as text",
        "_request": "the request under way",
    },
    HTTPRequest: {
        "_finish_time": "for an application that logs how long requests take",
        "_start_time": "likewise",
    },
    HTTPHeaders: {
        "_as_list": "repeated headers one by one",
    },
    RequestHandler: {
        "_auto_finish": "whether the response ends when the method returns",
        "_execute": "the way of a request through its handler",
        "_finished": "the response is complete",
        "_generate_headers": "the head of the response",
        "_handle_request_exception": "from an exception to a response",
        "_headers": "of the response",
        "_headers_written": "the head is out",
        "_list_headers": "those that may be repeated",
        "_new_cookie": "cookies that a custom handler sets",
        "_reason": "the words behind the status",
        "_status_code": "the status",
        "_transforms": "of the body: none",
        "_write_buffer": "the body until the head is out",
    },
}

PACKAGE = Path(cyclone_sse.__file__).parent
# The files whose classes are, or hold, cyclone's.
FILES = [
    *sorted((PACKAGE / "http").glob("*.py")),
    *(
        PACKAGE / f"{name}.py"
        for name in ("broker_handler", "sse_handler", "publish", "subscribe", "handlers", "server")
    ),
]


def private_names(kind: type) -> set[str]:
    """All that cyclone's class defines or sets."""
    return set(re.findall(r"\b_[a-z]\w*\b", inspect.getsource(kind)))


def used_names(path: Path) -> set[str]:
    """All private names that a file reads, sets or defines on an object."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    names.add(each.name)
                elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    names.add(each.target.id)
                elif isinstance(each, ast.Assign):
                    names |= {target.id for target in each.targets if isinstance(target, ast.Name)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in PRIVATE.items() for name in names]
)
def test_cyclone_still_has_it(kind: type, name: str) -> None:
    assert name in private_names(kind)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_other_name_of_cyclone_is_used(path: Path) -> None:
    """Neither on purpose, nor by giving one of our own attributes a name that cyclone has."""
    theirs = set().union(*(private_names(kind) for kind in PRIVATE))
    table = set().union(*PRIVATE.values())
    assert used_names(path) & theirs <= table


def test_each_is_used() -> None:
    source = "".join(path.read_text() for path in FILES if path.name != "cyclone_names.py")
    for names in PRIVATE.values():
        for name in names:
            assert re.search(rf"\b{name}\b", source), f"{name} is not used any more"
