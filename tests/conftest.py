"""Settings for all tests, and the markers that tell which of them need what."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

import cyclone_sse  # noqa: F401  # a test that imports cyclone first would not find it, when run alone

# A busy machine is slow, not wrong: no property fails for the time it took. CI draws the same examples
# each time.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() == "true" else "local")

# Children inherit which signals are ignored: SIGINT and SIGQUIT in a background job, SIGHUP below nohup.
# Without this no daemon of a test would notice them: what has a handler has the default in a child.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# Which fixture, folder or file of tests needs what; `make test M="not browser"` leaves those out.
FIXTURES = {"redis_server": "redis", "rabbit_server": "rabbitmq", "nginx": "nginx", "chromium": "browser"}
UPSTREAMS = {"redis": "redis", "redis-stream": "redis", "amqp": "rabbitmq"}
FOLDERS = {"browser": "browser"}
FILES = {
    "test_nginx": "nginx",
    "test_redis": "redis",
    "test_redis_stream": "redis",
    "test_sentinel": "redis",
    "test_bench": "slow",
    "test_crowd": "slow",
    "test_dist": "slow",
    "test_packaging": "slow",
    "test_proxies": "slow",
    "test_readme": "slow",
    "test_soak": "slow",
}


def needs(item: pytest.Function) -> set[str]:
    """The markers of one test."""
    if "integration" not in item.path.parts:
        return set()
    found = {FOLDERS[part] for part in item.path.parts if part in FOLDERS}
    found |= {FILES[item.path.stem]} if item.path.stem in FILES else set()
    fixtures = set(item.fixturenames)
    if "brokers" in item.path.parts and hasattr(item, "callspec"):
        # By the name of a broker a fixture starts one of the two when it runs: its own fixtures do not tell.
        values = [value for value in item.callspec.params.values() if isinstance(value, str)]
        found |= {UPSTREAMS[value] for value in values if value in UPSTREAMS}
    return found | {name for fixture, name in FIXTURES.items() if fixture in fixtures}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs."""
    for item in items:
        if isinstance(item, pytest.Function):
            for name in needs(item):
                item.add_marker(name)
