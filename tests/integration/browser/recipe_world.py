"""The recipes with a server, behind a network that can be cut, and what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.harness.process import free_port
from tests.harness.recipes import FOLDER, PhpRecipe, Recipes
from tests.harness.servers import SseServer
from tests.integration.browser.site import Site

Visit = Callable[[str, str], Any]
Application = type[Recipes] | type[PhpRecipe]


class World:
    """The application, the server, and the network between the browsers and the server."""

    def __init__(
        self, directory: Path, stack: ExitStack, kind: Application = Recipes, auth: str = "/push/auth"
    ) -> None:
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        self.server = stack.enter_context(
            SseServer(
                directory,
                "--http-secret=KEY",
                f"--auth-url={origin}{auth}",
                f"--cors-origin={origin}",
                f"--channels={FOLDER}/channels.toml",
                f"--history-file={directory}/events.sqlite",
                "--presence-grace=1",
            )
        )
        self.network = stack.enter_context(Site(self.server.port))
        self.application = stack.enter_context(
            kind(directory, self.server.url, f"{self.network.url}/sse/", port)
        )


def wait_text(page: Any, selector: str, text: str) -> None:
    """Wait until an element has this text."""
    shown = "([selector, text]) => document.querySelector(selector)?.textContent.trim() === text"
    page.wait_for_function(shown, arg=[selector, text])
