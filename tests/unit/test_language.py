"""The countable rules of CONTRIBUTING.md about names and words."""

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
FORBIDDEN = re.compile(  # in names too
    r"(?<![a-z])(anew|anybody|everybody|for ever|mend(s|ed|ing)?|nobody|somebody|whoever)(?![a-z])"
    r"|(?<![-`])\bbesides\b",
    re.IGNORECASE,
)
SUBJECT = re.compile(r"(^|[.:] |\"\"\")Who [a-z]+s?\b", re.MULTILINE)  # at the start of a sentence


def public_names(path: Path) -> Iterator[str]:
    """The names that a module defines at its top level, except type variables."""
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
    assert not found
