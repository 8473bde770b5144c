"""The seam between state and stream, on the real server under a publisher that does not pause."""

from __future__ import annotations

import json
import random
import threading

import pytest

from tests.harness.clients import Subscriber, request
from tests.integration.conftest import Serve

CLIENTS = 100
ROOMS = ["a", "b"]


def post(url: str, form: str) -> None:
    """Publish by a form."""
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = request("POST", f"{url}/publish", form, fields)
    assert answer.status == 200, answer.body


class Hammer(threading.Thread):
    """Publishes numbers in turn to each channel, every seventh as its state, until it is stopped."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.stopped = threading.Event()
        self.published = 0

    def run(self) -> None:
        while not self.stopped.is_set():
            batch = [
                {"channel": channel, "message": str(number), "keep": number % 7 == 0}
                for number in range(self.published, self.published + 20)
                for channel in ROOMS
            ]
            answer = request(
                "POST",
                f"{self.url}/publish",
                json.dumps(batch).encode(),
                {"Content-Type": "application/json"},
            )
            assert answer.status == 200, answer.body
            self.published += 20


@pytest.mark.parametrize("kept_in", ["memory", "file"])
def test_clients_see_consecutive_numbers_from_the_state_on(
    serve: Serve, kept_in: str, tmp_path: object
) -> None:
    server = serve(*([f"--history-file={tmp_path}/history"] if kept_in == "file" else []))
    post(server.url, "channel=a&channel=b&message=0&keep=1")
    hammer = Hammer(server.url)
    hammer.start()
    rng = random.Random(1)
    clients = []
    try:
        for _ in range(CLIENTS):
            channel = rng.choice(ROOMS)
            clients.append(Subscriber(server.url, channel, query={"state": "1"}).wait_open())
    finally:
        hammer.stopped.set()
        hammer.join()
    for channel in ROOMS:
        post(server.url, f"channel={channel}&message=end")
    for client in clients:
        got = []
        while (data := client.event().data) != "end":
            got.append(int(data))
        state, *stream = got
        assert state % 7 == 0
        if stream:
            assert stream == list(range(stream[0], hammer.published)), "the stream has no hole and no double"
            assert state == (stream[0] - 1) // 7 * 7 or not stream[0], "the last that was kept before it"
        client.close()


def test_a_page_that_was_told_of_a_gap_is_right_by_the_states_alone(serve: Serve) -> None:
    server = serve("--history-size=2")
    assert request("GET", f"{server.url}/state?channel=a").json == {}
    with Subscriber(server.url, "a") as before:
        old = before.wait_open().headers["last-event-id"]
    for number in range(10):
        keep = "&keep=1" if number == 3 else ""
        post(server.url, f"channel=a&message={number}{keep}")
    with Subscriber(server.url, "a", old, query={"state": "1"}) as back:
        gap, state, *rest = back.events(4)
    assert (gap.type, json.loads(gap.data)) == ("sse-gap", {"channels": ["a"]})
    assert [event.data for event in (state, *rest)] == ["3", "8", "9"]
    answer = request("GET", f"{server.url}/state?channel=a").json
    assert answer["a"]["data"] == "3"
    assert answer["a"]["id"] == state.id
