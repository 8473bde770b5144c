"""Imports point downwards only: nothing in the package knows anything above it.

`LAYERS` is the one table of directions. A new module gets its place in it, which a test enforces.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cyclone_sse"

# From the top to the bottom. A module may import those in the rows below its own.
LAYERS = [
    {"__main__"},
    {"daemon.plugin"},
    {"daemon.check", "daemon.process", "daemon.service", "daemon.supervisor"},
    {"daemon.worker_process", "daemon.systemd"},
    {"daemon.probes"},
    {"daemon.commands", "daemon.handover"},
    {"daemon.admin", "daemon.command_line", "daemon.sockets", "daemon.tls"},
    {"daemon.operator_page"},
    {"daemon.figures", "daemon.streams"},
    {
        "daemon.admin_resource",
        "daemon.exposure",
        "daemon.listener",
        "daemon.metrics",
        "daemon.log_file",
        "daemon.tls_transport",
    },
    {
        "daemon.name_resolver",
        "daemon.process_figures",
        "daemon.proxy_protocol",
        "daemon.start_signals",
        "daemon.turn_watch",
    },
    {"server"},
    {"handlers"},
    {"publish", "queries", "subscribe"},
    {"sse_handler"},
    {"broker_handler"},
    {"amqp", "http.static_files", "presence_url"},
    {"http.bodies", "http.connection", "http.handler", "periodic"},
    {"http.requests"},
    {"http.server_state", "http.request_reader"},
    {
        "http.chunks",
        "http.body_budget",
        "http.eviction",
        "http.flow_control",
        "http.forms",
        "http.forwarded",
        "http.responses",
        "http.target",
    },
    {"http.first_fit", "http.headers", "http.unread_answers"},
    {"access.rules"},
    {"access.auth_url", "access.tokens"},
    {"access.credentials", "access.key_url"},
    {"access.http_client"},
    {"access.answers", "access.keys"},
    {"access.grant", "access.secret_file"},
    {"brokers"},
    {"brokers.amqp", "brokers.http", "brokers.redis", "brokers.redis_stream"},
    {"brokers.subscribing"},
    {"brokers.redis_stream_states", "brokers.upstream"},
    {"brokers.redis_server", "brokers.redis_stream_link", "brokers.redis_subscriber_link"},
    {"brokers.redis_link", "brokers.redis_scripts"},
    {"brokers.amqp_publisher", "brokers.amqp_subscriber", "brokers.base", "brokers.publishing_connection"},
    {"brokers.amqp_protocol"},
    {"brokers.amqp_wire", "brokers.broker_tls", "brokers.link"},
    {"brokers.carried", "brokers.presence_exchange", "brokers.subscriptions"},
    {
        "brokers.amqp_tables",
        "brokers.heartbeats",
        "brokers.pattern_set",
        "brokers.redis_pipeline",
        "brokers.redis_stream_arrivals",
        "brokers.redis_stream_position",
        "brokers.sliced_reads",
    },
    {"delivery.hub"},
    {"delivery.presence_feed"},
    {"delivery.publishing"},
    {"delivery.lifecycle"},
    {"delivery.end_orders", "delivery.fanout", "delivery.journal", "delivery.resume", "delivery.stats"},
    {"delivery.log_turns", "delivery.pieces", "delivery.positions"},
    {
        "delivery.channel_reader",
        "delivery.journal_file",
        "delivery.log_reader",
        "delivery.turn",
        "delivery.writer_thread",
    },
    {"delivery.transport_client"},
    {"delivery.poll_client", "delivery.socket_client"},
    {"delivery.batch"},
    {"delivery.client"},
    {"delivery.channels", "delivery.history", "delivery.presence", "delivery.rates", "delivery.states"},
    {
        "delivery.drop_order",
        "delivery.event_log",
        "delivery.expiring",
        "delivery.floors",
        "delivery.losses",
        "delivery.pattern_index",
        "delivery.rising_floors",
        "delivery.spreading",
        "delivery.starting_point",
    },
    {"delivery.automaton", "delivery.backlog", "delivery.sorted_log", "delivery.views"},
    {"delivery.idempotency", "delivery.journal_place"},
    {"delivery.events", "delivery.kinds", "delivery.publication", "delivery.room"},
    {
        "counters",
        "deadlines",
        "direct_socket",
        "errors",
        "globs",
        "log_limit",
        "options",
        "patterns",
        "reactors",
        "run_queue",
        "slices",
    },
    {"broker_urls", "prefix_table", "reactor_turns", "strict_json", "values", "verified_tls"},
    {"", "access", "daemon", "delivery", "http"},  # what each part is
]
LEVEL = {module: level for level, row in enumerate(LAYERS) for module in row}

# Plain Python: no framework, and time, ids and randomness come as arguments or from one place.
PURE = {
    "brokers.amqp_tables",
    "brokers.carried",
    "brokers.heartbeats",
    "brokers.redis_scripts",
    "brokers.redis_stream_position",
    "daemon.exposure",
    "access.answers",
    "access.credentials",
    "access.grant",
    "access.keys",
    "access.secret_file",
    "broker_urls",
    "counters",
    "deadlines",
    "delivery.automaton",
    "delivery.backlog",
    "delivery.batch",
    "delivery.channel_reader",
    "delivery.channels",
    "delivery.client",
    "delivery.drop_order",
    "delivery.end_orders",
    "delivery.events",
    "delivery.history",
    "delivery.kinds",
    "delivery.presence",
    "delivery.rates",
    "delivery.room",
    "delivery.journal_file",
    "delivery.journal_place",
    "delivery.log_reader",
    "delivery.log_turns",
    "delivery.losses",
    "delivery.pattern_index",
    "delivery.pieces",
    "delivery.poll_client",
    "delivery.positions",
    "delivery.publication",
    "delivery.resume",
    "delivery.rising_floors",
    "delivery.sorted_log",
    "delivery.spreading",
    "delivery.starting_point",
    "delivery.states",
    "delivery.turn",
    "delivery.views",
    "direct_socket",
    "errors",
    "globs",
    "http.first_fit",
    "log_limit",
    "options",
    "patterns",
    "prefix_table",
    "strict_json",
    "values",
}

# Which of our modules may know a library at all; a library that is not named here has no place yet, unless
# it is Python's own.
LIBRARIES = {
    "sqlite3": {"delivery.journal_file"},
    "twisted": set(LEVEL) - PURE,
    "zope": set(LEVEL) - PURE,
    "cyclone": {
        "http.connection",
        "http.forms",
        "http.headers",
        "http.static_files",
        "http.requests",
        "http.handler",
        "server",
        "sse_handler",
    },
    "python_multipart": {"http.forms"},
    "txamqp": {
        "brokers.amqp_protocol",
        "brokers.amqp_publisher",
        "brokers.amqp_subscriber",
        "brokers.amqp_wire",
    },
    "txredisapi": {"brokers.redis_link", "brokers.redis_subscriber_link"},
    "prometheus_client": {"daemon.metrics"},
    "OpenSSL": {"brokers.broker_tls", "verified_tls"},
    "service_identity": {"verified_tls"},
    "cryptography": {"access.keys", "daemon.tls", "verified_tls"},
    "jwt": {"access.keys", "access.tokens", "daemon.commands"},
}


@cache
def files() -> dict[str, Path]:
    """Every module of the package by its name below `cyclone_sse`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] == "vendored":  # cyclone, in a checkout that was installed by -e
            continue
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """The full names of what a file imports: at its top, in functions and for the type checker."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name.removeprefix("cyclone_sse.") in files() else node.module or ""


def own(name: str) -> str:
    """The name below the package of one of our modules."""
    return name.removeprefix("cyclone_sse").removeprefix(".")


@pytest.mark.parametrize("module", sorted(files()))
def test_imports_point_downwards(module: str) -> None:
    assert module in LEVEL, f"{module} has no place in LAYERS"
    for name in imports(files()[module]):
        if name.split(".")[0] == "cyclone_sse":
            assert LEVEL[own(name)] > LEVEL[module], f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize("module", sorted(files()))
def test_each_library_is_imported_in_its_part_only(module: str) -> None:
    for name in imports(files()[module]):
        library = name.split(".")[0]
        free = library in sys.stdlib_module_names and library not in LIBRARIES
        if not free and library != "cyclone_sse":
            assert module in LIBRARIES.get(library, ()), f"{module} imports {name}"


def test_what_is_imported_is_installed_along() -> None:
    """But for cyclone, which the build adds, and what always comes with others."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    required = {
        re.split(r"[^\w-]", each)[0].lower().replace("-", "_") for each in project["dependencies"]
    } | {"cyclone", "cyclone_sse", "cryptography", "openssl", "zope"}
    names = {"jwt": "pyjwt"}  # a library that is called otherwise than its distribution
    imported = {name.split(".")[0] for path in files().values() for name in imports(path)}
    libraries = imported - sys.stdlib_module_names
    assert {names.get(name, name).lower() for name in libraries} <= required


def test_options_are_known_without_cyclone() -> None:
    """So that the service can say in one line that it is missing, and how to get it."""
    for module in ("daemon.plugin", "daemon.command_line", "options"):
        top = ast.parse(files()[module].read_text()).body
        names = {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert not names & {"cyclone_sse.server", "cyclone_sse.handlers", "cyclone_sse.http.connection"}


def test_no_part_is_empty() -> None:
    assert set(LEVEL) == set(files())


@pytest.mark.parametrize("module", sorted(files()))
def test_parts_side_by_side_do_not_import_each_other(module: str) -> None:
    parts = {"access", "brokers", "http"}
    part = module.split(".", maxsplit=1)[0]
    if part in parts:
        known = {
            own(name).split(".")[0] for name in imports(files()[module]) if name.startswith("cyclone_sse")
        }
        assert not known & (parts - {part})
        if part == "access":
            assert "delivery" not in known
