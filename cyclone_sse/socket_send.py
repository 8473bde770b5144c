"""The ``send`` of the socket below a transport, for bytes that are to be sent at once.

Twisted's ``transport.write`` costs two ``epoll_ctl`` calls and a second trip through the reactor each time.
If no bytes wait, they can be sent directly to the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Send = Callable[[bytes], int]


def socket_send(transport: Any) -> Send | None:
    """The function that sends bytes at once and returns their number; None for a transport without one.

    The function raises BlockingIOError if there is no room, and OSError if the connection is broken. It must
    not be called while bytes wait in the transport's own buffer.

    The class is inspected, not the instance: the wrapper of a TLS connection passes unknown attributes on to
    the socket below it, which would send bytes unencrypted. ``getHandle`` is no proof either, since a TLS
    connection has one of its own, which does not send.
    """
    if not hasattr(type(transport), "writeSomeData"):
        return None
    send: Send = transport.getHandle().send
    return send
