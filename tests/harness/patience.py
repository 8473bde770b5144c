"""How long a test waits for what must come: one time for all, so that no test has one that is too short.

It costs nothing as long as all is well. A machine that others keep busy is slow, not wrong.
"""

from __future__ import annotations

PATIENCE = 120.0  # seconds; RabbitMQ has taken more than 60 to start beside 30 other processes
