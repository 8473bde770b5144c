"""The ``send`` of the socket below a transport, for bytes that are to leave at once.

Twisted's ``transport.write`` costs two ``epoll_ctl`` calls and a second trip through the reactor each time.
Where nothing waits to be sent, the socket takes the bytes directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Send = Callable[[bytes], int]


def socket_send(transport: Any) -> Send | None:
    """The function that sends bytes at once and returns how many it took; None for a transport without one.

    It raises BlockingIOError where there is no room, and OSError where the connection is broken. It must not
    be called while bytes wait in the transport's own buffer.

    The class is asked, not the instance: the wrapper around a TLS connection passes unknown attributes on to
    the socket below it, where bytes would leave unencrypted. And not for ``getHandle``, of which a TLS
    connection has its own: what is sent there stays there.
    """
    if not hasattr(type(transport), "writeSomeData"):
        return None
    send: Send = transport.getHandle().send
    return send
