"""What the clients ask about channels: members and states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclone_sse_client import Publisher, make_token

from tests.harness.clients import Subscriber
from tests.harness.process import until
from tests.integration.clients.test_php import call
from tests.integration.conftest import Serve
from tests.unit.access.keys import SECRET


def test_the_members_of_a_channel(serve: Serve, tmp_path: Path) -> None:
    rules = tmp_path / "channels.toml"
    rules.write_text('["room-*"]\npresence = true\n')
    server = serve(f"--channels={rules}", f"--jwt-secret={SECRET}", "--http-secret=KEY")
    token = make_token(SECRET, ["room-*"], user=42, info={"name": "Ann"})
    with (
        Subscriber(server.url, "room-1", headers={"Authorization": f"Bearer {token}"}),
        Publisher(server.url, "KEY") as publisher,
    ):

        def members() -> Any:
            return publisher.presence("room-1")["members"]

        until(members, what="the member")
        assert members()["42"]["info"] == {"name": "Ann"}
        asked = call(tmp_path, server.url, "$publisher->presence('room-1')", "KEY")
        assert list(asked["members"]) == ["42"]
