"""One Chromium for all tests of this folder, a fresh profile for each, and a site around the daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness import evidence
from tests.harness.patience import PATIENCE
from tests.harness.process import left_out, need
from tests.harness.servers import SseServer
from tests.integration.browser.recipe_world import Visit, World
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

VARIABLES = ["seen", "states", "gaps", "errors", "opens", "log", "rooms"]

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


@contextmanager
def _profile(chromium: Any, options: dict[str, Any]) -> Iterator[Any]:
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE * 1000)  # ms
    noted: list[str] = []
    context.on("console", lambda message: noted.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda fault: noted.append(f"thrown: {fault.error}"))
    context.on("requestfailed", lambda asked: noted.append(f"{asked.failure}: {asked.url}"))

    def tell() -> str:
        return "\n".join([*noted, *(f"{page.url} has {_known(page)}" for page in context.pages)])

    evidence.offer(context, "pages", tell)
    yield context
    evidence.withdraw(context)
    context.close()


def _known(page: Any) -> str:
    """The variables of a page by which the tests know what it has received, if it answers soon."""
    script = "names => Object.fromEntries(names.filter((n) => window[n]).map((n) => [n, window[n]]))"
    try:
        return json.dumps(page.wait_for_function(script, arg=VARIABLES, timeout=1000).json_value())
    except Exception as error:
        return repr(error)


@pytest.fixture
def open_profile(chromium: Any) -> Iterator[Open]:
    """`open_profile(**options)` is a profile of its own, which Playwright calls a context.

    options: Playwright's for `new_context`. If the test fails, what its pages log, throw and know is shown.
    """
    with ExitStack() as opened:
        yield lambda **options: opened.enter_context(_profile(chromium, options))


@pytest.fixture
def browse(open_profile: Open) -> Open:
    """`browse(url, old=False, **options)` opens a page in a profile of its own.

    `page.faults` are its exceptions; `options` are those of `open_profile`: `color_scheme="dark"`.
    Without `bypass_csp=False` a page's Content-Security-Policy does not hold: waiting is done by eval.
    """

    def open_page(url: str, old: bool = False, **options: Any) -> Any:
        context = open_profile(**{"bypass_csp": True, **options})
        if old:
            context.add_init_script(OLD_BROWSER)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        page.goto(url)
        return page

    return open_page


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The recipes, with a server and a network."""
    with ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture
def visit(world: World, browse: Open) -> Visit:
    """`visit("ann", "/chat/tea")`: the page in a browser of its own in which this user has logged in."""

    def open_page(name: str, path: str) -> Any:
        page = browse(world.application.url)
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Recipes").wait_for()
        page.goto(world.application.url + path)
        return page

    return open_page
