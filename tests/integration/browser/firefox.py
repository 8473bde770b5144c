"""Firefox over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which Firefox implements.

A `FirefoxPage` has those methods of Playwright's page that the tests use.
"""

from __future__ import annotations

import itertools
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.harness.patience import PATIENCE
from tests.harness.process import Process, need, until


class Firefox(Process):
    """A headless Firefox with a profile of its own below `directory`."""

    name = "firefox"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, env={"HOME": str(directory), "MOZ_HEADLESS": "1"}, cwd=directory)
        self.program = need("firefox-esr")
        self.profile = directory / "profile"
        self.profile.mkdir()
        # six connections to a host, as everywhere; none to other hosts
        self.profile.joinpath("user.js").write_text(
            'user_pref("browser.shell.checkDefaultBrowser", false);\n'
            'user_pref("datareporting.policy.dataSubmissionEnabled", false);\n'
            'user_pref("app.update.enabled", false);\n'
            'user_pref("network.captive-portal-service.enabled", false);\n'
            'user_pref("network.connectivity-service.enabled", false);\n'
            'user_pref("remote.active-protocols", 1);\n'
        )
        self._ids = itertools.count(1)
        self._opened = ExitStack()

    def argv(self) -> list[str]:
        flags = ["--headless", "--no-remote", "--remote-debugging-port=0"]
        return [self.program, *flags, "--profile", str(self.profile), "about:blank"]

    def is_ready(self) -> bool:
        return self._address() is not None

    def start(self) -> Firefox:
        super().start()
        self._socket = self._opened.enter_context(connect(f"{self._address()}/session", max_size=None))
        self.command("session.new", capabilities={})
        return self

    def stop(self) -> None:
        if self.running:
            self._opened.close()
        super().stop()

    def command(self, method: str, **parameters: Any) -> Any:
        """Give a command; returns its result. AssertionError with what Firefox says if it fails."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def new_page(self) -> FirefoxPage:
        """A new tab."""
        return FirefoxPage(self, self.command("browsingContext.create", type="tab")["context"])

    def _address(self) -> str | None:
        found = re.search(r"WebDriver BiDi listening on (ws://\S+)", self.log_of_this_run)
        return found and found[1]


class FirefoxPage:
    """A tab."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self.firefox = firefox
        self.context = context

    def goto(self, url: str) -> None:
        """Load a page, and wait until it and its scripts are there."""
        self.firefox.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which must go through JSON."""
        result = self.firefox.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert result["type"] == "success", result["exceptionDetails"]
        value = result["result"]
        return json.loads(value["value"]) if value["type"] == "string" else None

    def wait_for_function(self, expression: str) -> None:
        """Wait until an expression is true."""
        until(lambda: self.evaluate(f"Boolean({expression})"), expression)

    def close(self) -> None:
        """Close the tab."""
        self.firefox.command("browsingContext.close", context=self.context)
