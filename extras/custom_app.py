"""An application of your own: who may subscribe is your decision, all the rest is as the options say.

Run it from the directory in which this file lies:

    twistd -n cyclone-sse -r custom_app.App
"""

from cyclone_sse.handlers import BroadcastHandler
from cyclone_sse.server import App as StandardApp


class MemberHandler(BroadcastHandler):
    """Admits clients that send the cookie which your site sets for its members."""

    def authorize(self):
        """Whether it may: any value, by its truth. A Deferred or a coroutine will do as well."""
        return self.get_cookie("member") == "yes"


class App(StandardApp):
    """The standard application, with the handler above in front."""

    broadcast_handler = MemberHandler
