"""What holds for all pages: README.md leads to each, links lead somewhere, commands are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cyclone_sse.options import OPTIONS
from tests.harness.docs import commands, page_path, pages
from tests.harness.process import ROOT
from tests.integration import test_readme

HERE = Path(__file__).parent
LINES = 150  # of README.md
OTHERS = {"no-deps"}  # options of other programs
# Which test runs the commands of a page.
RUN_BY = {
    "CONTRIBUTING.md": "test_readme.py",
    "README.md": "test_readme.py",
    "access.md": "test_docs_access.py",
    "brokers.md": "brokers/test_docs_brokers.py",
    "capacity.md": "test_readme.py",
    "clients/php/README.md": "clients/test_php.py",
    "clients/python/README.md": "clients/test_django.py",
    "extending.md": "test_readme.py",
    "history.md": "test_history_file.py",
    "jquery.md": "test_docs_access.py",
    "options.md": "test_readme.py",
    "publishing.md": "test_docs_access.py",
    "recipes.md": "test_docs_help.py",
    "rooms.md": "test_docs_rooms.py",
    "running.md": "test_docs_running.py",
    "troubleshooting.md": "test_docs_help.py",
    "upgrade.md": "test_docs_help.py",
}


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    """What a page links to, but for other sites."""
    text = re.sub(r"^```.*?^```", "", page_path(page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page_path(page).parent / name if name else page_path(page)
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(page_path("README.md").read_text().splitlines()) <= LINES
    named = {link.partition("#")[0].removeprefix("docs/") for link in links("README.md")}
    assert set(pages()) - {"README.md"} <= named


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)])
def test_some_test_runs_its_commands(page: str) -> None:
    assert page in RUN_BY, "name the test that runs the commands of this page"
    assert f'"{page}"' in (HERE / RUN_BY[page]).read_text()


def test_every_command_that_test_readme_should_run_is_run() -> None:
    # Here, since that file is slow: its own tests are rarely run by those who edit a page.
    source = Path(test_readme.__file__).read_text()
    quoted = re.findall(r'(?:only\(|shell\(|run\(|in \()["\']([^"\']+)', source)
    for line in test_readme.COMMANDS:
        if not line.startswith(test_readme.ELSEWHERE):
            assert any(words in line for words in quoted), f"no test runs: {line}"


@pytest.mark.parametrize("page", pages())
def test_options_that_are_named_exist(page: str) -> None:
    known = {row.name for row in OPTIONS} | OTHERS
    for name in re.findall(r"`--([a-z]+(?:-[a-z]+)+)(?==|`)", page_path(page).read_text()):
        assert name in known, name


def test_no_page_is_left_out_of_the_archive() -> None:
    manifest = (ROOT / "MANIFEST.in").read_text()
    for path in ROOT.glob("*.md"):
        assert path.name in manifest or path.name == "BENCHMARK.md", path.name
