"""Names the plugin for twistd, nothing else."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "cyclone-sse",
    "cyclone_sse.daemon.plugin",
    "Push server for browsers: EventSource (SSE) from HTTP, Redis or AMQP",
    "cyclone-sse",
)
