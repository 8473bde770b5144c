"""The tree of tests mirrors the package, and the picture and the pages about the package are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_imports import PACKAGE, files, imports
from tools.layer_picture import picture, rows

HERE = Path(__file__).parent
DOCS = PACKAGE.parent / "docs"
# Modules without a test file of their own, and why.
EXCEPTIONS = {
    "amqp": "two names, which tests/integration/test_custom_app.py imports",
    # each needs processes, signals or sockets to do anything at all
    "daemon.process": "tests/integration/test_signals.py",
    "daemon.handover": "tests/integration/test_workers.py",
    # what Redis and RabbitMQ say is the whole of it
    "brokers.amqp_protocol": "tests/integration/brokers/test_amqp.py",
    "brokers.link": "what a connection must have, and how its errors read",
}


def test_each_module_has_its_tests() -> None:
    for module, path in files().items():
        if path.name != "__init__.py" and module not in EXCEPTIONS:
            *parts, name = module.split(".")
            assert HERE.joinpath(*parts, f"test_{name}.py").exists(), module


def test_the_exceptions_are_needed() -> None:
    for module, where in EXCEPTIONS.items():
        *parts, name = module.split(".")
        assert module in files()
        assert not HERE.joinpath(*parts, f"test_{name}.py").exists(), module
        for test in re.findall(r"tests/[\w/]+\.py", where):
            assert (PACKAGE.parent / test).exists(), test


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.py")), ids=lambda path: str(path.relative_to(HERE)))
def test_unit_tests_import_nothing_of_the_integration_tests(path: Path) -> None:
    assert not [name for name in imports(path) if name.startswith("tests.integration")]


def test_the_picture_is_drawn_from_the_house() -> None:
    assert (DOCS / "architecture.svg").read_text() == picture(), "make docs"


def test_every_module_stands_in_the_picture_once() -> None:
    drawn = [name for lines in rows().values() for line in lines for name in line]
    modules = [module for module, path in files().items() if path.name != "__init__.py"]
    assert sorted(drawn) == sorted(module.rpartition(".")[2] for module in modules)


def test_the_invariants_that_are_told_have_their_tests() -> None:
    told = re.findall(r"`(test_\w+)`", (DOCS / "architecture.md").read_text())
    tests = {
        name for path in HERE.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(told) > 5
    assert set(told) <= tests
