"""An application of your own, which decides which clients may subscribe; the options define the rest.

Run it from the directory of this file:

    twistd -n cyclone-sse -r custom_app.App
"""

from cyclone_sse.handlers import BroadcastHandler
from cyclone_sse.server import App as StandardApp


class MemberHandler(BroadcastHandler):
    """Accepts clients that send the cookie which your site sets for its members."""

    def authorize(self):
        """Whether the client may subscribe: any true or false value, or a Deferred or coroutine of one."""
        return self.get_cookie("member") == "yes"


class App(StandardApp):
    """The standard application, with the handler above for its streams."""

    broadcast_handler = MemberHandler
