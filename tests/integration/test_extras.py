"""extras/post.py: publish from the command line, to see that everything works."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.harness.clients import Subscriber
from tests.harness.patience import PATIENCE
from tests.harness.process import ROOT, free_port
from tests.harness.servers import SseServer
from tests.integration.conftest import Serve


def post(*words: str, **env: str) -> subprocess.Popen[str]:
    """Start the script."""
    return subprocess.Popen(
        [sys.executable, ROOT / "extras" / "post.py", *words],
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_publishes_until_it_is_stopped(server: SseServer) -> None:
    with Subscriber(server.url, "clock") as subscriber, post("clock", str(server.port)) as script:
        first, second = (json.loads(data) for data in subscriber.data(2))
        assert first < second
        script.terminate()


def test_it_sends_the_key(serve: Serve) -> None:
    server = serve("--http-secret=hush")
    with (
        Subscriber(server.url, "clock") as subscriber,
        post("clock", str(server.port), CYCLONE_SSE_HTTP_SECRET="hush") as script,
    ):
        subscriber.event()
        script.terminate()
    with post("clock", str(server.port)) as refused:
        _, error = refused.communicate(timeout=PATIENCE)
        assert refused.returncode == 1
        assert "401" in error


def test_it_says_what_is_wrong() -> None:
    refused, no_port = ["a", str(free_port())], ["a", "x"]
    for words, code, reason in [([], 2, "CHANNEL"), (refused, 1, "refused"), (no_port, 1, "port: 'x'")]:
        with post(*words) as script:
            _, error = script.communicate(timeout=PATIENCE)
        assert script.returncode == code
        assert reason in error
        assert "Traceback" not in error
