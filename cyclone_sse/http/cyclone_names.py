"""Every private name of cyclone that this server relies on, and for what.

cyclone 1.3 has no public way to do these things. A test reads its classes and ours: a name that cyclone has
lost, or one that is used here and not in this table, is found before a user does.
"""

from __future__ import annotations

from collections.abc import Mapping

from cyclone.httpserver import HTTPConnection, HTTPRequest
from cyclone.httputil import HTTPHeaders
from cyclone.web import Application, RequestHandler

PRIVATE: Mapping[type, Mapping[str, str]] = {
    Application: {
        "_get_host_handlers": "which handler a request is for, before its body is read",
    },
    HTTPConnection: {
        "_finish_callback": "whom to tell that a request is over",
        "_remote_ip": "the peer's address as text",
        "_request": "the request under way",
    },
    HTTPRequest: {
        "_finish_time": "for an application that logs how long requests take",
        "_start_time": "likewise",
    },
    HTTPHeaders: {
        "_as_list": "repeated headers one by one",
    },
    RequestHandler: {
        "_auto_finish": "whether the response ends when the method returns",
        "_execute": "the way of a request through its handler",
        "_finished": "the response is complete",
        "_generate_headers": "the head of the response",
        "_handle_request_exception": "from an exception to a response",
        "_headers": "of the response",
        "_headers_written": "the head is out",
        "_list_headers": "those that may be repeated",
        "_new_cookie": "cookies that a custom handler sets",
        "_reason": "the words behind the status",
        "_status_code": "the status",
        "_transforms": "of the body: none",
        "_write_buffer": "the body until the head is out",
    },
}
