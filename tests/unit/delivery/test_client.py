"""What the hub knows of any client."""

from __future__ import annotations

from cyclone_sse.delivery.client import NOT_LIVE, Client, State


def test_a_new_client_is_corked_and_is_due_no_events_yet() -> None:
    client = Client()
    assert client.state is State.CORKED
    assert client.skip_until == NOT_LIVE
    assert client.shares_frames
