"""Publish to a cyclone-sse server and subscribe to it, with the standard library only.

- ``publisher``  ``Publisher``: blocking calls over persistent connections, safe to share between threads
- ``aio``        ``AsyncPublisher``: the same methods as coroutines, over httpx (the extra ``async``)
- ``stream``     ``subscribe``: an iterator over the events of channels, which reconnects and resumes
- ``tokens``     ``make_token``: a JSON Web Token that lets a browser subscribe
- ``django``     settings, publishing on commit, the view for ``--auth-url``, a template tag, a test backend
- ``calls`` and ``attempts``  the requests, their answers, and the pauses between attempts; no I/O
"""

from cyclone_sse_client.calls import Message, Published, State
from cyclone_sse_client.errors import CycloneSSEError, NotAllowed, Refused, Unavailable
from cyclone_sse_client.eventstream import Event
from cyclone_sse_client.publisher import Publisher
from cyclone_sse_client.stream import Subscription, subscribe
from cyclone_sse_client.tokens import make_token

__version__ = "2.0.0"
__all__ = [
    "CycloneSSEError",
    "Event",
    "Message",
    "NotAllowed",
    "Published",
    "Publisher",
    "Refused",
    "State",
    "Subscription",
    "Unavailable",
    "make_token",
    "subscribe",
]
