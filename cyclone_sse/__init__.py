"""cyclone-sse: a push server that gives browsers the messages of their channels by EventSource.

The way of an event, file by file: ``brokers`` (where messages come from), ``events`` (their id
and bytes), ``history`` (what a returning client missed), ``channels`` (who listens),
``subscriber`` (one client's socket). ``handlers`` and ``connection`` are the HTTP side,
``server``, ``options`` and ``service`` put it all together for ``twistd``.
"""

__version__ = "1.0.0"
