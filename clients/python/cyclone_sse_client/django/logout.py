"""Ends all streams of a user who logs out; those of sessions that are still logged in reconnect."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction

from cyclone_sse_client.calls import Calls
from cyclone_sse_client.django import conf
from cyclone_sse_client.errors import CycloneSSEError

logger = logging.getLogger(__name__)


def end_streams(*, user: Any, request: Any = None, **_: object) -> None:
    """End the streams of this user when the transaction, which deletes the session, has been committed."""
    if user is None:
        return
    session = getattr(request, "session", None)
    if session is not None:
        # Django deletes the session only after this signal. Without this, a stream that ends could reconnect with it.
        session.delete()
    calls: Calls = conf.calls()
    call = calls.disconnect(user=user.pk)

    def send_to_cyclone_sse() -> None:
        try:
            conf.backend().call(call)
        except CycloneSSEError:
            logger.exception("the streams of user %s that has logged out were not ended", user.pk)

    transaction.on_commit(send_to_cyclone_sse)
