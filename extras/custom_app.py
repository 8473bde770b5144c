"""An application of your own: who may subscribe to what is your decision.

Run it from the directory in which this file lies:

    twistd -n cyclone-sse -r custom_app.App
"""

from cyclone.web import Application

from cyclone_sse.brokers import HttpBroker
from cyclone_sse.handlers import BroadcastHandler, PublishHandler, StatsHandler


class MemberHandler(BroadcastHandler):
    """Lets in whoever sends the cookie that your site gives its members."""

    def authorize(self):
        """True: the client may subscribe. A Deferred of it will do as well."""
        return self.get_cookie("member") == "yes"


class App(Application):
    """cyclone-sse with the handler above in front."""

    def __init__(self, settings):
        handlers = [
            (r"/", MemberHandler),
            (r"/publish", PublishHandler),
            (r"/stats", StatsHandler),
        ]
        self.broker = HttpBroker(settings)
        Application.__init__(self, handlers)
