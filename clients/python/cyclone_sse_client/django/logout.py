"""Ends all streams of a user who logs out; those of sessions that are still logged in reconnect.

Django sends ``user_logged_out`` before it deletes the session. A stream that ended at that moment could
reconnect with the old session, so the streams are ended when the request is finished.
"""

from __future__ import annotations

import logging
from typing import Any

from asgiref.local import Local

from cyclone_sse_client.calls import Calls
from cyclone_sse_client.django import conf
from cyclone_sse_client.errors import CycloneSSEError

logger = logging.getLogger(__name__)
_noted = Local()


def note(*, user: Any, request: Any = None, **_: object) -> None:
    """Remember the user until the request is finished."""
    if user is None:
        return
    _noted.users = [*getattr(_noted, "users", []), user.pk]
    if request is None:
        disconnect_noted()


def disconnect_noted(**_: object) -> None:
    """End the streams of the users who have logged out in this request."""
    users, _noted.users = getattr(_noted, "users", []), []
    calls: Calls = conf.calls()
    for user in users:
        try:
            conf.backend().call(calls.disconnect(user=user))
        except CycloneSSEError:
            logger.exception("the streams of user %s that has logged out were not ended", user)
