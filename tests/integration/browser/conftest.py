"""One Chromium for all tests of this folder, a fresh profile for each, and a site around the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.patience import PATIENCE
from tests.harness.process import left_out, need
from tests.harness.servers import SseServer
from tests.integration.browser.site import JQUERIES, Site, node_modules

FLAGS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# what a browser of before 2011 had: XMLHttpRequest, but no EventSource and no fetch
OLD_BROWSER = "delete window.EventSource; delete window.fetch;"

Open = Callable[..., Any]


# Not for the whole session: while Playwright runs, no other test of this thread could run an asyncio loop.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """A running Chromium (playwright.sync_api.Browser)."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        left_out("playwright is not installed")
    program = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(server: SseServer) -> Iterator[Site]:
    """The site around `server`."""
    with Site(server.port) as running:
        yield running


@pytest.fixture(params=JQUERIES)
def jquery(request: pytest.FixtureRequest) -> str:
    """Each version of jQuery in turn."""
    node_modules()
    return str(request.param)


@pytest.fixture(params=["EventSource", "old browser"])
def old(request: pytest.FixtureRequest) -> bool:
    """Whether the page is to be opened in an old browser: both in turn."""
    return bool(request.param == "old browser")


@pytest.fixture
def browse(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """`browse(url, old=False, **context)` opens a page in a profile of its own.

    `page.faults` are its exceptions; `context` are Playwright's for `new_context`: `color_scheme="dark"`.
    Without `bypass_csp=False` a page's Content-Security-Policy does not hold: waiting is done by eval.
    """
    contexts = []

    def open_page(url: str, old: bool = False, **context: Any) -> Any:
        contexts.append(chromium.new_context(**{"bypass_csp": True, **context}))
        if old:
            contexts[-1].add_init_script(OLD_BROWSER)
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)  # ms
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
