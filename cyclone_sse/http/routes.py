"""Which handler of a cyclone application a request is for, asked before its body is there."""

from __future__ import annotations

from typing import Any


def handler_for(application: Any, request: Any) -> Any:
    """The handler's class, as the application itself will find it; None where it has none."""
    for spec in application._get_host_handlers(request):
        if spec.regex.match(request.path):
            return spec.handler_class
    return None


def takes_body(application: Any, request: Any) -> bool:
    """Whether a body is wanted: a handler of this server says for which methods; of others nobody knows."""
    handler = handler_for(application, request)
    if handler is None:
        return False
    methods = getattr(handler, "body_methods", None)
    return methods is None or request.method in methods
