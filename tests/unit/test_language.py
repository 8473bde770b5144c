"""The countable rules of CONTRIBUTING.md about names and words.

The tables of exceptions only shrink: what is in them is to be repaired when its file is touched.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_imports import PACKAGE, files

ROOT = PACKAGE.parent
# Verbs with several meanings: publish, deliver, send, log, notify, start, open, end, set, pop have one.
BANNED_VERBS = {"begin", "give", "hold", "let", "part", "say", "settle", "take", "tell"}
FORBIDDEN = re.compile(
    r"\b(anew|anybody|everybody|for ever|mend(s|ed|ing)?|nobody|somebody|whoever|(?<![-`])besides)\b",
    re.IGNORECASE,
)
SUBJECT = re.compile(r"(^|[.:] |\"\"\")Who [a-z]+s?\b", re.MULTILINE)  # at the start of a sentence

WORDS = {
    "BENCHMARK.md": 7,
    "CHANGES.md": 6,
    "README.md": 2,
    "bench/__main__.py": 3,
    "bench/contestants.py": 1,
    "bench/limits.py": 2,
    "bench/report.py": 1,
    "bench/rounds.py": 1,
    "bench/rows.py": 3,
    "bench/soak/clients.py": 2,
    "bench/soak/ledger.py": 1,
    "bench/soak/publisher.py": 1,
    "bench/trials/fan_out.py": 1,
    "bench/trials/publishing.py": 1,
    "bench/trials/redis_stream.py": 1,
    "clients/python/cyclone_sse_client/django/backends.py": 1,
    "clients/python/cyclone_sse_client/errors.py": 1,
    "cyclone_sse/access/__init__.py": 1,
    "cyclone_sse/brokers/amqp_subscriber.py": 1,
    "cyclone_sse/brokers/amqp_wire.py": 2,
    "cyclone_sse/brokers/base.py": 1,
    "cyclone_sse/brokers/redis_stream.py": 4,
    "cyclone_sse/brokers/redis_stream_link.py": 2,
    "cyclone_sse/brokers/upstream.py": 1,
    "cyclone_sse/counters.py": 1,
    "cyclone_sse/http/flow_control.py": 1,
    "cyclone_sse/http/handler.py": 1,
    "cyclone_sse/http/responses.py": 2,
    "cyclone_sse/server.py": 3,
    "docs/architecture.md": 3,
    "docs/brokers.md": 6,
    "docs/history.md": 3,
    "docs/publishing.md": 1,
    "extras/client.py": 3,
    "extras/custom_app.py": 1,
    "extras/load_report.py": 2,
    "tests/harness/ports.py": 2,
    "tests/harness/process.py": 2,
    "tests/harness/sites.py": 1,
    "tests/integration/brokers/test_access_shared.py": 2,
    "tests/integration/brokers/test_amqp.py": 1,
    "tests/integration/brokers/test_faults.py": 2,
    "tests/integration/brokers/test_redis.py": 2,
    "tests/integration/brokers/test_redis_stream.py": 2,
    "tests/integration/brokers/test_resume.py": 1,
    "tests/integration/brokers/test_rolling_restart.py": 2,
    "tests/integration/brokers/test_sentinel.py": 2,
    "tests/integration/test_access.py": 2,
    "tests/integration/test_access_sites.py": 3,
    "tests/integration/test_bench.py": 1,
    "tests/integration/test_clients.py": 1,
    "tests/integration/test_load_client.py": 3,
    "tests/integration/test_readme.py": 1,
    "tests/integration/test_signals.py": 6,
    "tests/integration/test_streams.py": 2,
    "tests/unit/access/test_rules.py": 2,
    "tests/unit/brokers/test_base.py": 3,
    "tests/unit/brokers/test_redis_server.py": 2,
    "tests/unit/brokers/test_redis_stream.py": 2,
    "tests/unit/brokers/test_subscribing.py": 1,
    "tests/unit/delivery/test_channels.py": 2,
    "tests/unit/delivery/test_hub.py": 2,
    "tests/unit/delivery/test_journal.py": 2,
    "tests/unit/delivery/test_journal_file.py": 2,
    "tests/unit/delivery/test_poll_client.py": 1,
    "tests/unit/delivery/test_turn.py": 1,
    "tests/unit/fakes.py": 2,
    "tests/unit/http/test_forwarded.py": 1,
    "tests/unit/http/test_rfc_semantics.py": 1,
    "tests/unit/test_imports.py": 1,
    "tests/unit/test_publish.py": 2,
    "tests/unit/test_subscribe_access.py": 3,
}


def public_names(path: Path) -> Iterator[str]:
    """The names that a module defines at its top, but for types' variables."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar("):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def prose() -> list[Path]:
    """The files whose sentences are read: sources, pages, tests and samples."""
    found = [*files().values(), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("media/*.js")]
    for folder in ("bench", "tools", "tests/unit", "tests/harness", "tests/integration", "clients/python"):
        found += ROOT.joinpath(folder).rglob("*.py")
    found += [path for path in ROOT.glob("extras/*") if path.suffix in (".py", ".conf", ".env", ".service")]
    return [path for path in found if path != Path(__file__)]


def test_each_public_name_is_defined_in_one_module() -> None:
    """So that a search for it, or a tool that follows calls, finds one place."""
    places: dict[str, list[str]] = {}
    for module, path in files().items():
        for name in public_names(path):
            places.setdefault(name, []).append(module)
    twice = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not twice, "rename one, or start it with _"


@pytest.mark.parametrize("module", sorted(files()))
def test_a_verb_has_one_meaning(module: str) -> None:
    tree = ast.parse(files()[module].read_text())
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    banned = {name for name in names if name.strip("_").split("_")[0] in BANNED_VERBS}
    assert not banned


@pytest.mark.parametrize("path", prose(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_actor_is_a_noun_and_the_word_is_the_field_s(path: Path) -> None:
    text = path.read_text()
    found = [match.group() for pattern in (FORBIDDEN, SUBJECT) for match in pattern.finditer(text)]
    assert len(found) <= WORDS.get(path.relative_to(ROOT).as_posix(), 0), found
