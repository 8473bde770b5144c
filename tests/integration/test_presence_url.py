"""An application that is notified of the members of channels."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.asked import AskedApplication, Question, Reply
from tests.harness.clients import Subscriber
from tests.harness.process import free_port, until
from tests.harness.servers import RedisServer, SseServer
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET, token


def join(server: SseServer, user: str | None, room: str = "room-1") -> Subscriber:
    bearer = {"Authorization": f"Bearer {token(subscribe=['*'], sub=user, info={'name': user})}"}
    return Subscriber(server.url, room, headers=bearer).wait_open()


class Notified:
    """The reports that the application has received. failures: requests that fail before one succeeds."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.changes: list[tuple[str, str, str, Any]] = []

    def __call__(self, question: Question) -> Reply:
        assert question.headers["Authorization"] == "Bearer key"
        if self.failures:
            self.failures -= 1
            return Reply(500)
        told = json.loads(question.body)
        for kind in ("left", "joined"):
            self.changes += [(kind, each["channel"], each["user"], each.get("info")) for each in told[kind]]
        return Reply(204)


def test_joins_and_leaves_are_posted_in_order_and_again_after_failures(serve: Serve, tmp_path: Path) -> None:
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    notified = Notified(failures=2)
    with AskedApplication(notified) as application, ExitStack() as clients:
        server = serve(
            f"--channels={kinds}",
            "--presence-grace=1",
            f"--presence-url={application.url}",
            f"--jwt-secret={SECRET}",
            "--http-secret=key",
        )
        ann = clients.enter_context(join(server, "ann"))
        second = clients.enter_context(join(server, "ann"))
        clients.enter_context(join(server, None))
        clients.enter_context(join(server, "bob", "other"))
        until(lambda: notified.changes, "the first change")
        ann.close()
        second.close()
        until(lambda: len(notified.changes) == 2, "her leave")
        assert notified.changes == [
            ("joined", "room-1", "ann", {"name": "ann"}),
            ("left", "room-1", "ann", None),
        ]
        assert server.log.count("--presence-url answered 500") == 1
        clients.enter_context(join(server, "eve"))
    # What waits when the server stops is posted before it ends.
    assert notified.failures == 0


@pytest.mark.slow
def test_an_application_that_is_away_and_slow_gets_everything_in_order(serve: Serve, tmp_path: Path) -> None:
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    port = free_port()
    server = serve(
        f"--channels={kinds}",
        "--presence-grace=0.5",
        f"--presence-url=http://127.0.0.1:{port}/seen",
        f"--jwt-secret={SECRET}",
        "--http-secret=key",
    )
    join(server, "ann").close()
    until(lambda: "trying again" in server.log, "a line in the log")
    notified, pauses = Notified(), [6.0]  # longer than the server waits

    def slowly(question: Question) -> Reply:
        reply = notified(question)
        time.sleep(pauses.pop() if pauses else 0)
        return reply

    with AskedApplication(slowly, port=port) as application, join(server, "bob"):
        until(lambda: ("joined", "room-1", "bob", {"name": "bob"}) in notified.changes, "all changes")
        kinds_of_ann = [kind for kind, _, user, _ in notified.changes if user == "ann"]
        # What was answered too late is posted again: at least once, and in order.
        assert kinds_of_ann[0] == "joined"
        assert kinds_of_ann[-1] == "left"
        assert application.questions


@pytest.mark.slow
def test_of_several_servers_one_posts_each_change(
    serve: Serve, tmp_path: Path, redis_server: RedisServer
) -> None:
    kinds = tmp_path / "channels.toml"
    kinds.write_text('["room-*"]\npresence = true\n')
    notified = Notified()
    with AskedApplication(notified) as application, ExitStack() as clients:
        options = [
            "--broker=redis",
            f"--redis-port={redis_server.port}",
            f"--channels={kinds}",
            "--presence-grace=1",
            f"--presence-url={application.url}",
            f"--jwt-secret={SECRET}",
            "--http-secret=key",
        ]
        one, two, three = (serve(*options) for _ in range(3))
        first = clients.enter_context(join(one, "ann"))
        until(lambda: notified.changes, "the first change")
        clients.enter_context(join(two, "ann"))
        clients.enter_context(join(three, "bob"))
        until(lambda: len(notified.changes) == 2, "the second")
        first.close()  # she is still on the second server, which is then killed
        clients.enter_context(join(three, "eve"))
        until(lambda: len(notified.changes) == 3, "the third")
        assert [change[:3] for change in notified.changes] == [
            ("joined", "room-1", "ann"),
            ("joined", "room-1", "bob"),
            ("joined", "room-1", "eve"),
        ]
        two.kill()
        until(lambda: len(notified.changes) > 3, "her leave")
        assert [change[:3] for change in notified.changes[3:]] == [("left", "room-1", "ann")]
        clients.enter_context(join(one, "dan"))
        until(lambda: len(notified.changes) > 4, "the last")
        assert [change[:3] for change in notified.changes[4:]] == [("joined", "room-1", "dan")]
